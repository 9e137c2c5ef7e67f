"""The JSON of requests and responses, as /openapi.json describes it."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from rnn_lab.data.corpus import Task
from rnn_lab.serving.uploads import UploadFormat

MAX_UNITS = 512

RUN_NAME = "name of a run of `GET /runs`; by default the first one"


class _Request(BaseModel):
    # app.json_body adds the limits of the server to the description.
    model_config = ConfigDict(extra="forbid", frozen=True)


class PredictRequest(_Request):
    """One text, or several."""

    text: StrictStr | None = Field(None, description="one text", examples=["Not bad at all."])
    texts: list[StrictStr] | None = Field(None, description="several texts; not with `text`")
    run: StrictStr | None = Field(None, description=RUN_NAME)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give one of `text` and `texts`")
        return self

    @property
    def all_texts(self) -> list[str]:
        """The texts to predict."""
        return [self.text] if self.texts is None and self.text is not None else self.texts or []


class PredictFileQuery(_Request):
    """How to read the file in the body, and the run that labels it."""

    run: str | None = Field(None, description=RUN_NAME)
    text_column: str | None = Field(
        None, description="name of the column with the text, or its number from 0"
    )
    format: UploadFormat = Field("csv", description="of the body")


class ExplainRequest(_Request):
    """One text, and the class to explain."""

    text: StrictStr = Field(description="the text", examples=["Not bad at all."])
    label: StrictStr | None = Field(
        None, description="class to explain, predicted or not; by default the most probable one"
    )
    units: StrictInt = Field(
        0, ge=0, le=MAX_UNITS, description="number of units whose values are returned for each gate"
    )
    run: StrictStr | None = Field(None, description=RUN_NAME)


class Prediction(BaseModel):
    """The prediction for one text."""

    label: str = Field(description="the most probable class")
    labels: list[str] = Field(
        description="what is predicted: `label`, or any number of labels for a multi-label run"
    )
    probabilities: dict[str, float] = Field(description="of each class")


class _Answer(BaseModel):
    run: str
    task: Task
    classes: list[str]


class PredictResponse(_Answer):
    """The predictions, in the order of the texts."""

    predictions: list[Prediction]


class Word(BaseModel):
    """One word of an explained text."""

    text: str
    known: bool = Field(description="false: the model has read <unk>")
    read: bool = Field(description="false: truncated")
    start: int = Field(description="position of its first token among those read")
    stop: int
    attribution: float = Field(description="above 0: for the explained class")
    probabilities: list[float] | None = Field(description="of each class after this word")


class Completeness(BaseModel):
    """How far the attributions sum to what they should."""

    difference: float = Field(description="logit of the explained class against the others")
    baseline: float = Field(description="the same for padding")
    sum: float = Field(description="of the attributions")
    relative_error: float | None


class Gate(BaseModel):
    """One gate or state over time."""

    layer: int
    backward: bool
    key: str
    kind: Literal["gate", "candidate", "state"]
    name: str
    ends: list[str] = Field(description="what a gate does at 0 and at 1")
    mean: list[float] = Field(description="over the units, after each token")
    low: list[float] = Field(description="10th percentile")
    high: list[float] = Field(description="90th percentile")
    units: list[int] = Field(description="numbers of the units in `values`")
    values: list[list[float]] | None = Field(description="[tokens][units]")


class ExplainResponse(_Answer, Prediction):
    """One explained prediction."""

    explained: str
    words: list[Word]
    token_attributions: list[float]
    prefix_probabilities: list[list[float]] = Field(description="[tokens][classes]")
    completeness: Completeness
    gates: list[Gate]


class Limits(BaseModel):
    """The limits of a request, options of conf/serve.yaml."""

    max_body_bytes: int
    max_texts: int
    max_text_length: int
    max_queue: int
    max_connections: int
    timeout_s: float


class RunInfo(BaseModel):
    """One run."""

    name: str
    cell: str
    task: Task
    classes: list[str]
    temperature: float = Field(description="that calibrates the probabilities; 1: uncalibrated")
    thresholds: list[float] | None = Field(description="of each label, for a multi-label run")
    explains: bool
    description: str
    metrics: dict[str, float]
    config: dict[str, Any]
    max_tokens: int | None = Field(description="a longer text is truncated")


class RunsResponse(BaseModel):
    """The runs and the limits of this server."""

    version: str
    limits: Limits
    runs: list[RunInfo]


class RunHealth(BaseModel):
    """One run."""

    name: str
    classes: list[str]


class HealthResponse(BaseModel):
    """Whether the server accepts requests."""

    status: Literal["ready"]
    runs: list[RunHealth] | None = Field(description="null without the access token")


class ErrorResponse(BaseModel):
    """What is wrong, in one sentence."""

    error: str
