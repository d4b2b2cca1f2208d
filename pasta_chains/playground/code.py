"""Code that asks what is on the page, to take along."""

from __future__ import annotations

from pprint import pformat
from typing import Any

from ..demo import MODEL
from ..emphasis_model import EmphasisModel
from ..remote import RemoteModel
from .asking import NEW_TOKENS, Question


def as_python(
    model: EmphasisModel, asked: Question, template: str, variables: dict[str, Any]
) -> str:
    """A program that asks it with pasta_chains alone."""
    prompt = '[{"role": "user", "content": prompt}]' if asked.chat else "prompt"
    arguments = ["do_sample=False", f"max_new_tokens={NEW_TOKENS}", *_steering(model, asked)]
    return (
        f"{_imports(model, 'render', asked=asked)}\n"
        f"{_texts(template, variables)}\n"
        "prompt = render(template, **variables)\n"
        f"print(model.generate({prompt}, {', '.join(arguments)}))\n"
    )


def as_langchain(
    model: EmphasisModel, asked: Question, template: str, variables: dict[str, Any]
) -> str:
    """A LangChain chain that asks it."""
    steering = [one.replace("profile=", "head_profile=") for one in _steering(model, asked)]
    arguments = ["model=model", "temperature=0", f"max_new_tokens={NEW_TOKENS}", *steering]
    arguments += ["use_chat_template=True"] if asked.chat else []
    return (
        "from pasta_chains.langchain import EmphasisPromptTemplate, PastaLLM\n"
        f"{_imports(model, asked=asked)}\n"
        f"{_texts(template, variables)}\n"
        f"llm = PastaLLM({', '.join(arguments)})\n"
        "chain = EmphasisPromptTemplate.from_template(template) | llm\n"
        "print(chain.invoke(variables))\n"
    )


def as_llama_index(
    model: EmphasisModel, asked: Question, template: str, variables: dict[str, Any]
) -> str:
    """The same for LlamaIndex."""
    steering = _steering(model, asked)
    generation = ['"do_sample": False']
    generation += [f'"profile": {one[8:]}' for one in steering if one.startswith("profile=")]
    arguments = ["model", f"max_new_tokens={NEW_TOKENS}"]
    arguments += [one for one in steering if not one.startswith("profile=")]
    arguments += ["use_chat_template=True"] if asked.chat else []
    arguments.append(f"generation_arguments={{{', '.join(generation)}}}")
    return (
        "from pasta_chains.llama_index import EmphasisPromptTemplate, PastaLLM\n"
        f"{_imports(model, asked=asked)}\n"
        f"{_texts(template, variables)}\n"
        f"llm = PastaLLM({', '.join(arguments)})\n"
        "print(llm.predict(EmphasisPromptTemplate(template), **variables))\n"
    )


def _imports(model: EmphasisModel, *names: str, asked: Question) -> str:
    """The lines that make `model`."""
    needed = {*names, "connect" if isinstance(model, RemoteModel) else "SteeredModel"}
    if asked.profile(model) is not None:
        needed.add("HeadProfile")
    lines = [f"from pasta_chains import {', '.join(sorted(needed))}"]
    if isinstance(model, RemoteModel):
        made = f"connect({model.url!r})"
    elif model.name == str(MODEL):
        lines.append("from pasta_chains.demo import MODEL")
        made = "SteeredModel.from_pretrained(MODEL)"
    else:
        heads = model.profile.to_dict()["heads"] if model.profile else {}
        profile = f"HeadProfile({_heads(heads)}, alpha={model.profile and model.profile.alpha})"
        lines[0] = f"from pasta_chains import {', '.join(sorted({*needed, 'HeadProfile'}))}"
        made = f"SteeredModel.from_pretrained({model.name!r}, profile={profile})"
    return "\n".join([*lines, "", f"model = {made}"])


def _steering(model: EmphasisModel, asked: Question) -> list[str]:
    """Arguments that say how the prompt is steered."""
    profile = asked.profile(model)
    arguments = [f"alpha={asked.alpha!r}"]
    if profile is not None:
        arguments.append(f"profile=HeadProfile({_heads(profile.heads)})")
    return arguments


def _heads(heads: Any) -> str:
    return repr({int(layer): [*numbers] for layer, numbers in heads.items()})


def _texts(template: str, variables: dict[str, Any]) -> str:
    """The lines that make `template` and `variables`."""
    plain = "\\" not in template and '"""' not in template and not template.endswith('"')
    literal = f'"""\\\n{template}"""' if plain else repr(template)
    return f"template = {literal}\nvariables = {pformat(variables, sort_dicts=False)}\n"
