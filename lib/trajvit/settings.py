"""How parameters are declared and how a wrong one is refused."""

from pydantic import BaseModel, ConfigDict, ValidationError


class InputError(ValueError):
    """What was given cannot be used; the message names it, what is allowed and what to do, in one line."""


class Settings(BaseModel):
    """A frozen set of named parameters; an unknown name or an ill-typed value raises `InputError`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_in_one_line(error, type(self))) from None


def _in_one_line(error: ValidationError, model: type[BaseModel]) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"{name!r} is not a parameter; there are {', '.join(model.model_fields)}")
        elif name:
            problems.append(f"{name} = {problem['input']!r}: {_lower_first(problem['msg'])}")
        else:
            problems.append(problem["msg"].removeprefix("Value error, "))
    return "; ".join(problems)


def _lower_first(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
