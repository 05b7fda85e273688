(() => {
  "use strict";
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const page = document.documentElement;
  page.classList.add("js");
  const readout = document.querySelector(".readout");
  const summary = readout && readout.firstElementChild;
  const told = new Map(all(".told").map((list) => [list.dataset.task, list]));
  const parts = new Map();
  for (const part of all("g[data-task], tr[data-task], button[data-task]")) {
    const task = part.dataset.task;
    if (!parts.has(task)) parts.set(task, []);
    parts.get(task).push(part);
  }
  let chosen = null;
  let shown = null;

  const show = (task) => {
    if (task === shown) return;
    for (const part of parts.get(shown) || []) part.classList.remove("on");
    for (const part of parts.get(task) || []) part.classList.add("on");
    page.classList.toggle("choosing", task !== null);
    shown = task;
    if (readout) {
      const list = task === null ? null : told.get(task);
      const copy = (list || summary).cloneNode(true);
      copy.hidden = false;
      readout.replaceChildren(copy);
    }
  };
  const choose = (task) => {
    chosen = task === chosen ? null : task;
    for (const button of all("button.choice")) {
      button.setAttribute("aria-pressed", String(button.dataset.task === chosen));
    }
    show(chosen);
  };

  for (const span of all("span.choice")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "choice";
    button.dataset.task = span.dataset.task;
    button.setAttribute("aria-pressed", "false");
    button.append(...span.childNodes);
    span.replaceWith(button);
    const task = button.dataset.task;
    if (!parts.has(task)) parts.set(task, []);
    parts.get(task).push(button);
  }
  const taskAt = (target) => {
    const part = target instanceof Element && target.closest("g.path[data-task], button.choice");
    return part ? part.dataset.task : null;
  };
  document.addEventListener("click", (event) => {
    const task = taskAt(event.target);
    if (task !== null && document.querySelector("button.choice")) choose(task);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen !== null) choose(chosen);
  });
  if (window.matchMedia("(hover: hover)").matches && document.querySelector("button.choice")) {
    document.addEventListener("pointerover", (event) => {
      const task = taskAt(event.target);
      show(task === null ? chosen : task);
    });
  }

  // Many tasks: find one by a part of its name.
  const search = document.querySelector("#search");
  if (search) {
    search.closest("[hidden]").hidden = false;
    const count = document.querySelector(".count");
    // Those with a picture of their own, and the rows of all.
    const tasks = all("details.task, #paths tr[data-task]").map((part) => ({
      part, name: part.querySelector("summary, th").textContent.toLowerCase(),
    }));
    const number = new Set(tasks.map(({ part }) => part.dataset.task)).size;
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      const found = new Set();
      for (const { part, name } of tasks) {
        part.hidden = wanted !== "" && !name.includes(wanted);
        if (!part.hidden) found.add(part.dataset.task);
      }
      count.textContent = wanted === "" ? "" : `${found.size} of ${number} tasks`;
    });
  }

  // Contents: closed on a narrow screen, the section that is read is marked.
  const contents = document.querySelector(".contents details");
  const narrow = window.matchMedia("(max-width: 1079px)");
  const fold = () => { contents.open = !narrow.matches; };
  fold();
  narrow.addEventListener("change", fold);
  contents.addEventListener("click", (event) => {
    if (narrow.matches && event.target instanceof Element && event.target.closest("a")) {
      contents.open = false;
    }
  });
  const links = new Map(all("a", contents).map((a) => [a.hash.slice(1), a]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) seen.add(entry.target); else seen.delete(entry.target);
    }
    const first = all("section").find((section) => seen.has(section));
    for (const [id, a] of links) {
      if (first && first.id === id) a.setAttribute("aria-current", "true");
      else a.removeAttribute("aria-current");
    }
  }, { rootMargin: "-15% 0px -60% 0px" });
  for (const section of all("section")) watch.observe(section);

  // Tables that are wider than the page say so.
  const measure = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      target.classList.toggle("cut", target.scrollWidth > target.clientWidth + 1);
    }
  });
  for (const box of all(".scroll")) measure.observe(box);

  // On paper nothing can be opened.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = all("details:not(.task):not(.aside):not([open])");
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
