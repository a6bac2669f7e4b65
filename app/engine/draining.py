"""Which adapters a server still works for: vLLM's metric of them, read from Prometheus' text format."""

import re

_INFO = re.compile(r"^vllm:lora_requests_info\{(?P<labels>.*)\}\s+(?P<at>[-+.\deE]+)\s*$", re.MULTILINE)
_LABEL = re.compile(r'(running_lora_adapters|waiting_lora_adapters)="([^"]*)"')


def adapters_at_work(metrics: str) -> frozenset[str] | None:
    """Adapters with requests that run or wait; None where the text does not tell.

    The gauge has one line for each set of adapters there ever was, whose value is when it was last so: of each
    ``engine``, the newest one is now.
    """
    newest: dict[str, tuple[float, str]] = {}
    for line in _INFO.finditer(metrics):
        labels = line["labels"]
        engine = (re.search(r'engine="([^"]*)"', labels) or ["", ""])[1]
        newest[engine] = max(newest.get(engine, (float("-inf"), "")), (float(line["at"]), labels))
    if not newest:
        return None
    return frozenset(
        name
        for _, labels in newest.values()
        for _, names in _LABEL.findall(labels)
        for name in names.split(",")
        if name
    )
