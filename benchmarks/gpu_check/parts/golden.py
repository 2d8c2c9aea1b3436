"""Four iterations of training with the reference's recorded numbers, on this device."""

from benchmarks.gpu_check.check import Check
from stylenat.models.attention import available_backends
from tests.test_training_golden import check_after, golden_trainer, slack, train


def run(check: Check) -> None:
    backends = ["tiles"]
    if check.gpu and "triton" in available_backends():
        backends.insert(0, "triton")
    for backend in backends:
        question = f"Does training give the reference's numbers, with attention by {backend}?"
        # On a GPU sums are in another order, whatever computes attention.
        factor = slack("triton" if check.gpu else backend)
        try:
            trainer = train(golden_trainer(str(check.device)), backend, factor=factor)
            check_after(trainer, factor)
        except AssertionError as error:
            where = error.__traceback__
            while where.tb_next is not None:
                where = where.tb_next
            place = f"{where.tb_frame.f_code.co_name}, line {where.tb_lineno}"
            values = {
                key: value
                for key, value in where.tb_frame.f_locals.items()
                if key in ("t", "key", "name", "found", "losses", "norm", "value")
                and not hasattr(value, "shape")
            }
            check.verdict(question, False, f"{place}: {error} {values}"[:600])
        else:
            check.verdict(question, True, "Losses, gradients and weights are as recorded.")
