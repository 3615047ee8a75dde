"""What the routes are given: checked by pydantic, described in OpenAPI."""

from __future__ import annotations

from typing import Any, Union

from pydantic import BaseModel, Extra, Field


class Body(BaseModel):
    """No field that is not known: a misspelt one is told."""

    class Config:
        """pydantic's."""

        extra = Extra.forbid


class Nothing(Body):
    """An empty object."""


class Training(Body):
    """Settings of a run, or of a dataset: names and values as in docs/settings.md; the rest have their defaults."""

    settings: dict[str, Any] = Field(..., description="e.g. {'train_data_dir': '/pictures', 'output_name': 'mika'}")


class Tagging(Body):
    """Tag a folder of pictures, and write captions."""

    folder: str = Field(..., max_length=4096, description="of the pictures")
    taggers: list[str] = Field(default=[], max_items=10, description="names as in GET /taggers; none takes the first")
    threshold: float = Field(default=0.35, ge=0, le=1, description="probability from which a tag is taken")
    character_threshold: float = Field(default=0.85, ge=0, le=1, description="the same for characters")
    exclude: list[str] = Field(default=[], max_items=1000, description="never these tags")
    write: str = Field(default="if-empty", max_length=40, description="what happens to captions that are there: "
                       "the modes of docs/tags.md")


class ToolUse(Body):
    """What a tool of the panel Tools asks; GET /tools lists it."""

    values: dict[str, Union[str, bool, float, None]] = Field(default={}, description="name -> value")  # noqa: UP007
    out: str = Field(default="", max_length=4096, description="name or path of the output; empty: a proposal")
    force: bool = Field(default=False, description="overwrite a file of that name")
    dry: bool = Field(default=False, description="compute and tell everything, write nothing")
