"""The files and folders of a project, relative to its top folder."""

from pathlib import Path

PARAMS, PIPELINE, LOCK = Path("params.yaml"), Path("dvc.yaml"), Path("dvc.lock")
CORRECTIONS = Path("corrections.csv")

DATA = Path("data")
RAW, SPLIT, AUGMENTED, RESIZED = (DATA / name for name in ("raw", "split", "augmented", "resized"))
IMAGES = DATA / "images.csv"
RECORDS = DATA / "inputs"  # what each stage was run with
DOWNLOADS = DATA / ".downloads"
MODELS = Path("models")
CHECKPOINTS = MODELS / ".checkpoints"
METRICS = Path("metrics")
PLOTS = Path("plots")
PREDICTIONS = PLOTS / "predictions.csv"
REPORT_PAGE, LABEL_PAGE, MAP_PAGE, EXPERIMENTS_PAGE = (
    PLOTS / f"{name}.html" for name in ("report", "label_issues", "map", "experiments")
)
OUTPUTS = (DATA, MODELS, METRICS, PLOTS)
