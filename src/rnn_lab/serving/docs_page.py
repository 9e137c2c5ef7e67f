"""The page /docs: the OpenAPI description of the server as plain HTML without scripts."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rnn_lab.reports.rendering import render_template

_TEMPLATE = Path(__file__).parent / "docs.html"


class Field(NamedTuple):
    """One field of a request or a response."""

    name: str
    kind: str
    required: bool
    description: str


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    description: str
    parameters: list[Field]
    body_types: list[str]
    body: list[Field]
    response: list[Field]
    errors: dict[str, str]
    command: str


def render_docs(openapi: Mapping[str, Any]) -> str:
    """Return the page for an OpenAPI description."""
    return render_template(
        _TEMPLATE,
        {},
        title=openapi["info"]["title"],
        version=openapi["info"]["version"],
        description=openapi["info"]["description"],
        operations=list(_operations(openapi)),
    )


def _operations(openapi: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in openapi["paths"].items():
        for method, details in methods.items():
            content = details.get("requestBody", {}).get("content", {})
            schema: Any = next((kind["schema"] for kind in content.values()), {})
            responses = details["responses"]
            answer = responses["200"].get("content", {}).get("application/json", {})
            yield Operation(
                method=method.upper(),
                path=path,
                description=details["description"],
                parameters=[
                    Field(
                        one["name"], _kind(one["schema"]), one["required"],
                        one.get("description", ""),
                    )
                    for one in details.get("parameters", [])
                ],
                body_types=list(content),
                body=_fields(openapi, schema),
                response=_fields(openapi, answer.get("schema", {})),
                errors={
                    status: one["description"]
                    for status, one in responses.items()
                    if status != "200"
                },
                command=_command(method, path, schema),
            )  # fmt: skip


def _resolve(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return openapi["components"]["schemas"][name] if name else schema


def _fields(openapi: Mapping[str, Any], schema: Mapping[str, Any], prefix: str = "") -> list[Field]:
    """Return the fields of an object, with those of objects within it."""
    schema = _resolve(openapi, schema)
    required = schema.get("required", ())
    found = []
    for name, one in schema.get("properties", {}).items():
        choices = [choice for choice in one.get("anyOf", [one]) if choice.get("type") != "null"]
        inner = _resolve(openapi, choices[0].get("items", choices[0]))
        dots = "[]" if choices[0].get("type") == "array" else ""
        described = one.get("description") or inner.get("description", "")
        found.append(Field(f"{prefix}{name}", _kind(one), name in required, described))
        found += _fields(openapi, inner, f"{prefix}{name}{dots}.")
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    """Return the type of a field in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(json.dumps(choice) for choice in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return str(schema.get("type", "object"))


def _command(method: str, path: str, schema: Mapping[str, Any]) -> str:
    """Return a command that calls the path."""
    address = f"http://127.0.0.1:8000{path}"
    if method == "get":
        return f"curl {address}"
    if "properties" not in schema:
        return f"curl {address} -H 'Content-Type: text/csv' --data-binary @reviews.csv"
    fields = schema["properties"].items()
    example = {name: one["examples"][0] for name, one in fields if "examples" in one}
    return f"curl {address} -H 'Content-Type: application/json' -d '{json.dumps(example)}'"
