"""The demo: a model small enough for any machine, its recipe, its prompts, and simulated reviewers.

- ``model/``: version 1 of the demo project, a Llama of 3.8 million parameters that answers everyday questions in
  manners it draws by chance; ``docs/demo-model.md`` says how it was made and what it cannot do.
- The corpus: ``topics/*.txt`` (facts) → ``facts``, ``manner``, ``phrases``, ``compose`` (answers), ``requests`` (how
  people ask), ``chat`` (small talk), all drawn together by ``corpus``. The project wrote every word of it.
- The recipe: ``python -m worker.demo.train`` (``tokenizer``, ``train``); ``python -m worker.demo.look`` samples answers
  to read and measures them.
- ``prompts.jsonl`` (written by ``prompts``) and ``settings.json``: what the demo project starts with.
- ``tastes``: hidden preferences. ``simulate``, ``client``, ``throwaway``, ``winrate``: reviewers who follow them, over
  HTTP, and what they taught.
"""
