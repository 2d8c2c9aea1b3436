# Whether folders of images are as they were when they were packed.
from snakemake.logging import logger

from stylenat.data.listing import changed_folder


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


# Not once more in every job.
if workflow.is_main_process:
    warn_of_changed_folders()
