"""One malformed file (or folder) per error, each with the message that it must give."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_opt.errors import InputError
from code_opt.instance import load_instance

FOLDER = Path(__file__).with_name("malformed")

# {} stands for the path of the file.
MESSAGES = {
    "accuracy-above-1.json": "{}: tasks[0].accuracy = 78.0: must be at most 1",
    "alias-bomb.yaml": ("{}: line 2, column 8: aliases (*name) are not read; repeat the value"),
    "alias.yaml": "{}: line 5, column 14: aliases (*name) are not read; repeat the value",
    "block-reserved-input.json": (
        "{}: dnns[0].blocks[1].id = 'input': 'input' and 'output' are reserved"
    ),
    "block-reserved-output.json": (
        "{}: dnns[0].blocks[1].id = 'output': 'input' and 'output' are reserved"
    ),
    "boolean.yaml": "{}: servers[0].flops = true: must be a number",
    "bundle-absolute.json": (
        "{}: bundle = '/etc': must be a folder below the instance's own: a relative path "
        "without '..'"
    ),
    "bundle-empty.json": (
        "{}: bundle = '': must be a folder below the instance's own: a relative path without '..'"
    ),
    "bundle-outside.json": (
        "{}: bundle = 'nets/../../other': must be a folder below the instance's own: a "
        "relative path without '..'"
    ),
    "bundle-windows-drive.json": (
        "{}: bundle = 'C:\\\\nets': must be a folder below the instance's own: a relative path "
        "without '..'"
    ),
    "bundle-windows-outside.json": (
        "{}: bundle = '..\\\\nets': must be a folder below the instance's own: a relative path "
        "without '..'"
    ),
    "connection-from-output.json": (
        "{}: tasks[0].connections[0].source = 'output': 'output' can only be a target"
    ),
    "connection-input-to-output.json": (
        "{}: tasks[0].connections[2]: a path must hold a block: no input -> output"
    ),
    "connection-to-input.json": (
        "{}: tasks[0].connections[0].target = 'input': 'input' can only be a source"
    ),
    "connection-to-itself.json": (
        "{}: tasks[0].connections[0].target = 'alexnet/0': must differ from the source"
    ),
    "connection-twice.json": (
        "{}: tasks[0].connections[2]: tasks[0].connections[0] has the same ends already"
    ),
    "control-character.yaml": (
        "{}: file: not YAML: unacceptable character #x0001: control characters are not "
        'allowed in "<unicode string>", position 202'
    ),
    "csv-bundle": (
        "{}: instance.csv:2 bundle = '../x': must be a folder below the instance's own: a "
        "relative path without '..'"
    ),
    "csv-cell-missing": (
        "{}: servers.csv:2 flops: is required: blocks.csv:2 (and 1 more) has FLOPs and no seconds"
    ),
    "csv-column-missing": (
        "{}: servers.csv:2 flops: is required: blocks.csv:2 (and 1 more) has FLOPs and no seconds"
    ),
    "csv-column-twice": "{}: servers.csv:1 = 'id': this column stands there twice",
    "csv-column-unknown": ("{}: servers.csv:1 = 'memry': unknown column; did you mean 'memory'?"),
    "csv-cycle": (
        "{}: connections.csv for tasks.csv:2: the task's graph has a cycle: alexnet/1 -> "
        "alexnet/0 -> alexnet/1"
    ),
    "csv-dnn-without-blocks": ("{}: blocks.csv for dnns.csv:3: must have at least one entry"),
    "csv-duplicate-server": (
        "{}: servers.csv:3 id = 'edge-a': this id belongs to servers.csv:2 already"
    ),
    "csv-instance-rows": "{}: instance.csv:3: only one row can describe the instance",
    "csv-measured-gap": "{}: measured_paths.csv:2 blocks = '': must not be empty",
    "csv-measured-no-path": (
        "{}: measured_paths.csv:2 blocks: no path: the step input -> alexnet/1 is neither "
        "native nor a connection of the task"
    ),
    "csv-name": (
        "{}: instance.csv:2 name = 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
        "nnn'... (201 characters): must have at most 200 characters"
    ),
    "csv-no-rows": "{}: servers.csv: must have at least one entry",
    "csv-number-blank": "{}: servers.csv:2 flops = ' 2e9': must be a number; remove the blanks",
    "csv-number-either": (
        "{}: servers.csv:2 flops = '2,500': must be a number; write 2500, or 2.5000 for the "
        "decimal number"
    ),
    "csv-number-nan": (
        "{}: servers.csv:2 flops = 'nan': must be a number; leave the cell empty where there is "
        "none"
    ),
    "csv-number-overflow": "{}: servers.csv:2 flops = inf: must be a finite number",
    "csv-number-text": "{}: servers.csv:2 flops = 'fast': must be a number",
    "csv-number-underscore": "{}: servers.csv:2 flops = '2_000': must be a number",
    "csv-parent-column-missing": "{}: blocks.csv:1: the column 'dnn' is missing",
    "csv-parent-missing": "{}: connections.csv:2 task: is required",
    "csv-quote": "{}: servers.csv:2: not CSV: ',' expected after '\"'",
    "csv-quote-open": "{}: servers.csv:2: not CSV: unexpected end of data",
    "csv-reward-field": ("{}: reward.csv:2 rate = 2.0: unknown field; known: 'kind', 'exponent'"),
    "csv-reward-kind": ("{}: reward.csv:2 kind: is required: 'power', 'logistic' or 'exponential'"),
    "csv-reward-no-part": "{}: reward.csv:2 part: is required",
    "csv-reward-part": ("{}: reward.csv:2 part = 'accurcy': must be 'accuracy' or 'throughput'"),
    "csv-reward-twice": "{}: reward.csv:3 part = 'accuracy': this part has a row already",
    "csv-row-long": "{}: servers.csv:2: 3 cells, but there are 2 columns",
    "csv-row-shifted": "{}: servers.csv:2: 5 cells, but there are 4 columns",
    "csv-row-short": (
        "{}: 2 problems\n"
        "  servers.csv:2: 1 cells, but there are 2 columns\n"
        "  servers.csv:2 flops: is required: blocks.csv:2 (and 1 more) has FLOPs and no seconds"
    ),
    "csv-schema": (
        "{}: instance.csv:2 schema = 'code-opt/instance/9': unknown schema; known: "
        "'code-opt/instance/1'"
    ),
    "csv-several": (
        "{}: 8 problems\n"
        "  servers.csv:1 = 'memry': unknown column; did you mean 'memory'?\n"
        "  tasks.csv:1: the column 'dnn' is missing\n"
        "  connections.csv:3 task = 'scenes': no such task; known: 'objects'\n"
        "  servers.csv:2 flops = 'x': must be a number\n"
        "  servers.csv:3 id = 'edge-a': this id belongs to servers.csv:2 already\n"
        "  tasks.csv:2 accuracy = 2.0: must be at most 1\n"
        "  connections.csv:2 drop: is required\n"
        "  connections.csv:2 source = 'alexnet/5': no such block; did you mean 'alexnet/1'?"
    ),
    "csv-share-differs": (
        "{}: connections.csv:3 params = 20.0: connections.csv:2 has the same ends and the share "
        "'head': the same adapter must have the same params"
    ),
    "csv-table-capitals": (
        "{}: 2 problems\n"
        "  Servers.csv: names of tables are in small letters: name it servers.csv\n"
        "  TASKS.CSV: names of tables are in small letters: name it tasks.csv"
    ),
    "csv-table-empty": ("{}: servers.csv: the file is empty; its first row must name the columns"),
    "csv-table-missing": "{}: tasks.csv: this table is required",
    "csv-table-unknown": "{}: connection.csv: no such table; did you mean 'connections'?",
    "csv-units-fraction": "{}: servers.csv:3 max_units = 0.5: must be a whole number",
    "csv-unknown-block": (
        "{}: connections.csv:4 source = 'alexnet/7': no such block; did you mean 'alexnet/1'?"
    ),
    "csv-unknown-dnn": ("{}: blocks.csv:3 dnn = 'alexnot': no such DNN; did you mean 'alexnet'?"),
    "csv-unknown-task": (
        "{}: connections.csv:2 task = 'objcts': no such task; did you mean 'objects'?"
    ),
    "csv-utf-16": "{}/servers.csv: not UTF-8 text (byte 0); save it as CSV UTF-8",
    "csv-weights": "{}: tasks.csv: the weights of all tasks are 0; one must be greater",
    "cycle-backwards.json": (
        "{}: tasks[0].connections: the task's graph has a cycle: alexnet/0 -> alexnet/1 -> "
        "alexnet/2 -> alexnet/0"
    ),
    "cycle-through-two-dnns.json": (
        "{}: tasks[0].connections: the task's graph has a cycle: alexnet/0 -> mobilenet/1 -> "
        "mobilenet/2 -> alexnet/0"
    ),
    "deep.json": "{}: file: nested too deeply",
    "deep.yaml": "{}: line 1, column 100: nested too deeply",
    "duplicate-block.json": (
        "{}: dnns[1].blocks[0].id = 'alexnet/0': this id belongs to dnns[0].blocks[0] already"
    ),
    "duplicate-dnn.json": ("{}: dnns[1].id = 'alexnet': this id belongs to dnns[0] already"),
    "duplicate-server.json": (
        "{}: 2 problems\n"
        "  servers[1].id = 'edge-a': this id belongs to servers[0] already\n"
        "  dnns[1].server = 'edge-b': no such server; did you mean 'edge-a'?"
    ),
    "duplicate-task.json": ("{}: tasks[1].id = 'objects': this id belongs to tasks[0] already"),
    "empty.json": "{}: file: the file is empty",
    "empty.yaml": "{}: file: the file is empty",
    "field-missing.json": (
        "{}: servers[0].flops: is required: dnns[0].blocks[0] (and 2 more) has FLOPs and no seconds"
    ),
    "field-name-surrogate.json": "{}: file = '\\ud800': must be valid Unicode text",
    "field-twice.json": "{}: servers[0].flops: this field stands there twice",
    "field-twice.yaml": "{}: line 6, column 1 = 'name': this field stands there twice",
    "floor-above-demand.json": "{}: tasks[0].floor = 10.0: must be at most the demand, 5",
    "floor-negative.json": (
        "{}: tasks[0].floor = -1: must be a number of at least 0, or 'standalone'"
    ),
    "floor-word.json": (
        "{}: tasks[0].floor = 'alone': must be a number of at least 0, or 'standalone'"
    ),
    "group-floor-above-demand.json": (
        "{}: tasks[1].floor = 6.0: the tasks of an input group have one rate: must be at most "
        "the least demand among them, 5 (tasks[0].demand)"
    ),
    "group-id-arrow.json": (
        "{}: tasks[0].input_group = 'a>b': an id must not hold '>' (paths are written a > b)"
    ),
    "huge-digits.json": "{}: file: an integer has thousands of digits",
    "huge-integer.json": "{}: servers[0].flops = a huge integer: must be a finite number",
    "id-arrow.json": ("{}: tasks[0].id = 'a>b': an id must not hold '>' (paths are written a > b)"),
    "id-control-character.json": (
        "{}: tasks[0].id = 'obj\\x1bects': an id must not hold control characters"
    ),
    "id-empty.json": "{}: servers[0].id = '': must not be empty",
    "id-leading-blank.json": (
        "{}: tasks[0].id = ' objects': an id must not begin or end with a blank"
    ),
    "id-line-separator.json": (
        "{}: tasks[0].id = 'obj\\u2028ects': an id must not hold control characters"
    ),
    "id-number.json": ("{}: servers[0].id = 7: must be text, in quotes if it looks like a number"),
    "id-number.yaml": ("{}: tasks[0].id = 7: must be text, in quotes if it looks like a number"),
    "id-surrogate.json": "{}: tasks[0].id = '\\ud800': must be valid Unicode text",
    "id-too-long.json": (
        "{}: servers[0].id = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'.."
        ". (201 characters): must have at most 200 characters"
    ),
    "id-trailing-blank.json": (
        "{}: tasks[0].id = 'objects ': an id must not begin or end with a blank"
    ),
    "key-list.yaml": "{}: line 5, column 3: a field name must be text, not an empty list",
    "key-number.yaml": "{}: line 5, column 1: a field name must be text, not 7",
    "link-cost-negative.json": "{}: links[0].cost = -1.0: must be at least 0",
    "link-to-itself.json": (
        "{}: links[0].target = 'edge-a': a link must join two different servers"
    ),
    "link-twice.json": "{}: links[1]: links[0] has the same ends already",
    "list-expected.json": "{}: servers = an object: must be a list",
    "measured-empty.json": ("{}: tasks[0].measured_paths[0].blocks: must have at least one entry"),
    "measured-no-entry.json": (
        "{}: tasks[0].measured_paths[0].blocks: no path: the step input -> alexnet/1 is "
        "neither native nor a connection of the task"
    ),
    "measured-no-exit.json": (
        "{}: tasks[0].measured_paths[0].blocks: no path: the step alexnet/1 -> output is "
        "neither native nor a connection of the task"
    ),
    "measured-no-link.json": (
        "{}: tasks[0].measured_paths[0].blocks: no path: alexnet/0 -> mobilenet/1 needs a "
        "link from edge-a to edge-b, which is not listed"
    ),
    "measured-no-step.json": (
        "{}: tasks[0].measured_paths[0].blocks: no path: the step alexnet/0 -> alexnet/2 is "
        "neither native nor a connection of the task"
    ),
    "measured-twice.json": (
        "{}: tasks[0].measured_paths[1].blocks: the same path as tasks[0].measured_paths[0]"
    ),
    "merge-key.yaml": (
        "{}: ['<<'] = an object: unknown field; known: 'schema', 'name', 'description', "
        "'bundle', 'currency', 'servers', 'links', 'dnns', 'tasks', 'reward'"
    ),
    "name-too-long.json": (
        "{}: name = 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn'... (201 "
        "characters): must have at most 200 characters"
    ),
    "nan.yaml": "{}: servers[0].flops = nan: must be a finite number",
    "no-blocks.json": "{}: dnns[0].blocks: must have at least one entry",
    "no-servers.json": "{}: servers: must have at least one entry",
    "no-tasks.json": "{}: tasks: must have at least one entry",
    "not-utf-8.json": "{}: not UTF-8 text (byte 0)",
    "number-as-boolean.json": "{}: tasks[0].weight = true: must be a number",
    "number-as-text.json": "{}: servers[0].flops = '2e9': must be a number",
    "number-as-text.yaml": "{}: servers[0].flops = '2.0e9': must be a number",
    "number-infinite.json": "{}: servers[0].memory = inf: must be a finite number",
    "number-nan.json": "{}: servers[0].flops = nan: must be a finite number",
    "number-negative.json": "{}: dnns[0].blocks[1].flops = -1.0: must be at least 0",
    "number-null.json": "{}: tasks[0].accuracy = null: must be a number",
    "number-zero.json": "{}: servers[1].flops = 0: must be greater than 0",
    "object-expected.json": ("{}: servers[1] = 'edge-b': must be an object with named fields"),
    "overflow.json": "{}: servers[0].flops = inf: must be a finite number",
    "recursive-alias.yaml": (
        "{}: line 1, column 5: aliases (*name) are not read; repeat the value"
    ),
    "result.yml": (
        "{}: schema = 'code-opt/result/1': this is a result, not an instance; known: "
        "'code-opt/instance/1'"
    ),
    "reward-field-missing.json": "{}: reward.accuracy.midpoint: is required",
    "reward-no-kind.json": (
        "{}: reward.accuracy.kind: is required: 'power', 'logistic' or 'exponential'"
    ),
    "reward-not-monotone.json": "{}: reward.throughput.rate = -1.0: must be at least 0",
    "reward-unknown-kind.json": (
        "{}: reward.accuracy.kind = 'powr': must be 'power', 'logistic' or 'exponential'"
    ),
    "reward-wrong-field.json": (
        "{}: reward.accuracy.rate = 2.0: unknown field; known: 'kind', 'exponent'"
    ),
    "schema-missing.json": "{}: schema: is required",
    "schema-not-text.json": "{}: schema = 1: must be 'code-opt/instance/1'",
    "schema-of-a-result.json": (
        "{}: schema = 'code-opt/result/1': this is a result, not an instance; known: "
        "'code-opt/instance/1'"
    ),
    "several-problems.json": (
        "{}: 7 problems\n"
        "  servers[0].flops = 'fast': must be a number\n"
        "  links = 7: must be a list\n"
        "  dnns[1].server = 'edge-c': no such server; did you mean 'edge-b'?\n"
        "  tasks[0].connections[0].drop = null: must be a number\n"
        "  tasks[0].connections[0].target = 'mobilenet/7': no such block; did you mean "
        "'mobilenet/2'?\n"
        "  tasks[0].demnd = 3: unknown field; did you mean 'demand'?\n"
        "  tasks[0].dnn = 'alexnett': no such DNN; did you mean 'alexnet'?"
    ),
    "share-arrow.json": (
        "{}: tasks[0].connections[0].share = 'a>b': an id must not hold '>' (paths are written "
        "a > b)"
    ),
    "share-differs.json": (
        "{}: tasks[1].connections[0].flops = 2000000.0: tasks[0].connections[0] has the same ends "
        "and the share 'low': the same adapter must have the same flops"
    ),
    "share-identity-adapter.json": (
        "{}: 3 problems\n"
        "  tasks[0].connections[0].flops = 5.0: must be 0: the share 'identity' says that there is "
        "no adapter\n"
        "  tasks[0].connections[0].params = 3.0: must be 0: the share 'identity' says that there "
        "is no adapter\n"
        "  tasks[0].connections[0].server = 'edge-a': must be null: the share 'identity' says that "
        "there is no adapter"
    ),
    "syntax.yaml": "{}: line 6, column 1: not YAML: did not find expected node content",
    "tab.yaml": ("{}: line 5, column 1: not YAML: found character that cannot start any token"),
    "tag-python.yaml": (
        "{}: line 3, column 13: tags are not read, found "
        "'tag:yaml.org,2002:python/object/apply:os.system'"
    ),
    "tag-str.yaml": ("{}: line 4, column 14: tags are not read, found 'tag:yaml.org,2002:str'"),
    "top-level-list.json": (
        "{}: file = an empty list: an instance must be an object with named fields"
    ),
    "top-level-null.json": ("{}: file = null: an instance must be an object with named fields"),
    "top-level-number.json": ("{}: file = 3: an instance must be an object with named fields"),
    "trailing-text.json": "{}: line 77, column 1: not JSON: Extra data",
    "truncated.json": "{}: line 16, column 4: not JSON: Unterminated string starting at",
    "two-documents.yaml": "{}: line 5, column 1: only one document can be in a file",
    "unit-bandwidth-zero.json": "{}: links[0].unit_bandwidth = 0.0: must be greater than 0",
    "units-fraction.json": "{}: servers[0].max_units = 2.5: must be a whole number",
    "units-negative.json": "{}: servers[0].max_units = -1.0: must be at least 0",
    "units-too-many.json": "{}: servers[0].max_units = 10000000.0: must be at most 1e+06",
    "unknown-connection-server.json": (
        "{}: tasks[0].connections[0].server = 'cloud': no such server; known: 'edge-a', 'edge-b'"
    ),
    "unknown-connection-source.json": (
        "{}: tasks[0].connections[0].source = 'alexnet/9': no such block; did you mean 'alexnet/2'?"
    ),
    "unknown-connection-target.json": (
        "{}: tasks[0].connections[0].target = 'mobilnet/1': no such block; did you mean "
        "'mobilenet/1'?"
    ),
    "unknown-dnn-of-task.json": (
        "{}: tasks[0].dnn = 'alexnat': no such DNN; did you mean 'alexnet'?"
    ),
    "unknown-field-at-the-top.json": (
        "{}: colour = 'red': unknown field; known: 'schema', 'name', 'description', "
        "'bundle', 'currency', 'servers', 'links', 'dnns', 'tasks', 'reward'"
    ),
    "unknown-field.json": ("{}: tasks[0].demnd = 5.0: unknown field; did you mean 'demand'?"),
    "unknown-link-source.json": (
        "{}: links[0].source = 'edge-c': no such server; did you mean 'edge-b'?"
    ),
    "unknown-link-target.json": (
        "{}: links[0].target = 'x': no such server; known: 'edge-a', 'edge-b'"
    ),
    "unknown-measured-block.json": (
        "{}: tasks[0].measured_paths[0].blocks[1] = 'alexnet/l': no such block; did you mean "
        "'alexnet/2'?"
    ),
    "unknown-schema.json": (
        "{}: schema = 'code-opt/instance/2': unknown schema; known: 'code-opt/instance/1'"
    ),
    "unit-slip.json": (
        "{}: servers[1].flops = 1.5: servers[0].flops = 2000000000000.0 is more than 1e+12 times "
        "as large: give every capacity in FLOP/s (TFLOP/s or GFLOP/s typed for FLOP/s?)"
    ),
    "unknown-server-of-dnn.json": (
        "{}: dnns[0].server = 'edge-1': no such server; did you mean 'edge-b'?"
    ),
    "unlimited-native.json": (
        "{}: tasks[0].demand: is required: nothing limits the rate of the path alexnet/0 > "
        "alexnet/1 > alexnet/2, which has no work and crosses no limited link"
    ),
    "unlimited-through-a-host.json": (
        "{}: tasks[0].demand: is required: nothing limits the rate of the path alexnet/0 > "
        "mobilenet/1 > mobilenet/2, which has no work and crosses no limited link"
    ),
    "weights-overflow.json": (
        "{}: 2 problems\n"
        "  tasks[0].weight = 1e+308: is beyond the supported range, 1e-12 to 1e+18\n"
        "  tasks[1].weight = 1e+308: is beyond the supported range, 1e-12 to 1e+18"
    ),
    "weights-zero.json": "{}: tasks: the weights of all tasks are 0; one must be greater",
}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_the_message_is_exact(name: str) -> None:
    path = FOLDER / name
    assert name in MESSAGES, f"no message is expected for {name}"
    with pytest.raises(InputError) as caught:
        load_instance(path)
    assert str(caught.value) == MESSAGES[name].replace("{}", str(path))


def test_every_message_has_its_file() -> None:
    assert set(MESSAGES) == {path.name for path in FOLDER.iterdir()}
