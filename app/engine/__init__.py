"""The product's side of the sampling engine: a client of the OpenAI protocol with vLLM's extensions."""
