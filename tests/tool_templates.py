"""Chat templates that show tools and calls in the ways of published models, and little else."""

from __future__ import annotations

import tiny
from transformers import PreTrainedTokenizerFast

_MESSAGES = """
{%- for message in messages %}
<{{ message.role }}>
{%- if message.role == 'tool' and TOOL_AS_JSON %}{{ message.content | tojson }}
{%- else %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}{% set call = call.function %}
CALL
{%- endfor %}</s>
{%- endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""


def _template(before: str, call: str, *, tool_as_json: bool = False) -> str:
    tools = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
    messages = _MESSAGES.replace("CALL", call).replace("TOOL_AS_JSON", str(tool_as_json))
    return "{{ bos_token }}" + before + tools + messages


HERMES = _template(
    "{% if tools %}Call tools inside <tool_call></tool_call> tags: {% endif %}",
    '<tool_call>\n{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}\n'
    "</tool_call>",
)
QWEN_XML = _template(
    "{% if tools %}Call tools as <tool_call><function=name><parameter=key>: {% endif %}",
    "<tool_call>\n<function={{ call.name }}>\n{% for key, value in call.arguments | items %}"
    "<parameter={{ key }}>\n{{ value }}\n</parameter>\n{% endfor %}</function>\n</tool_call>",
)
LLAMA = _template(
    '<|start_header_id|>{% if tools %}Answer with {"name": …, "parameters": {…}}: {% endif %}',
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}',
    tool_as_json=True,
)
MISTRAL = _template(
    "",
    '[TOOL_CALLS] [{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}]',
)
MISTRAL_TIGHT = MISTRAL.replace("[TOOL_CALLS] [", "[TOOL_CALLS][")
MISTRAL_ARGS = _template("", "[TOOL_CALLS]{{ call.name }}[ARGS]{{ call.arguments | tojson }}")

SPECIAL = ("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>")


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """The small tokenizer, with the special tokens of these formats and a chat template."""
    made = tiny.tokenizer()
    made.add_special_tokens({"additional_special_tokens": [*SPECIAL]})
    made.add_tokens(["<tool_call>", "</tool_call>"])
    made.chat_template = template
    return made
