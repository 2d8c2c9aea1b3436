# Whether results, and the folders of images that they are of, are as they were left.
from snakemake.logging import logger

from stylenat.data.listing import changed_folder, empty_results


def warn_of_changed_folders():
    """Of data sets that were packed from other images than their folders hold now: packing them again
    means training again, so it is left to the user."""
    for name in DATASETS:
        packed = f"results/data/{name}.download.json"
        if folder := changed_folder(packed):
            logger.warning(
                f"datasets.{name}: {folder} has changed since it was packed, and the results are of "
                f"the images of then; to begin again from those of now, add --forcerun {packed}"
            )


def warn_of_empty_results():
    """Which Snakemake takes for made, because it looks at names and times alone."""
    if empty := empty_results("results"):
        shown = ", ".join(empty[:3]) + (" …" if len(empty) > 3 else "")
        logger.warning(
            f"{len(empty)} results are empty, as after a power cut ({shown}); to make them again, run "
            "`find results/ -type f -empty -delete` and then this command"
        )


def require_results():
    """Refuse a link to a disk that is not mounted; Snakemake could only say that a folder is missing."""
    results = Path("results")
    if results.is_symlink() and not results.exists():
        refuse(f"results is a link to {results.readlink()}, which is not there; mount or make it")


# Not once more in every job.
if workflow.is_main_process:
    require_results()
    warn_of_changed_folders()
    warn_of_empty_results()
