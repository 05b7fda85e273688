"""Results executed: accuracy on test images, speed on a device, the edge as real processes.

The short way from Python::

    from code_opt.evaluation import Options, evaluate, load_subject

    subject = load_subject("data/digits/instance.json")
    found = evaluate(subject, {"exact": result}, Options(seconds=2.0))
    print(found.tables()["results"])
"""

from code_opt.evaluation.pipeline import Evaluation, Options, evaluate, save_evaluation
from code_opt.evaluation.subject import Subject, load_subject

__all__ = ["Evaluation", "Options", "Subject", "evaluate", "load_subject", "save_evaluation"]
