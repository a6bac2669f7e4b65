"""Hone's settings: one typed object, read from the environment (``HONE_*``) once and passed down."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything the processes of one installation agree on.

    ``hone up`` fills in the addresses of the parts that it starts itself; no other code knows whether
    a part is embedded. Each field is documented in ``docs/operators.md`` (a test holds the two together).
    """

    model_config = SettingsConfigDict(env_prefix="HONE_", env_file=None, extra="ignore")

    data: Path = Field(default=Path("hone-data"), description="Data directory: versions, jobs, logs, embedded servers.")

    database_url: str = Field(
        default="",
        description="Postgres, as postgresql://user:password@host/name. Empty: `hone up` starts its own.",
    )
    database_pool_size: int = Field(default=10, ge=1, description="Connections each process keeps to Postgres.")
    redis_url: str = Field(default="", description="Redis, as redis://… or redis+socket://…. Empty: embedded.")
    engine_url: str = Field(
        default="",
        description="Sampling engine (OpenAI protocol), as http://host:port; several, with commas between them, where "
        "they serve different models. Empty: embedded.",
    )
    engine_kind: Literal["vllm", "sglang"] = Field(
        default="vllm", description="What speaks there: `vllm` (Hone's own engine, too) or `sglang`."
    )
    engine_secret: SecretStr = Field(default=SecretStr(""), description="Bearer secret the engine asks for.")
    engine_timeout_seconds: float = Field(default=120.0, gt=0, description="Longest wait for one engine answer.")
    engine_sleeps_in_rounds: bool = Field(
        default=True, description="Put the engine to sleep while a round trains (one device for both)."
    )

    host: str = Field(default="127.0.0.1", description="Address the web server listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the web server listens on.")
    web_processes: int = Field(
        default=1, ge=0, le=64, description="Web server processes that `hone up` starts; 0: one per core, up to four."
    )
    secure_cookies: bool = Field(
        default=False, description="Set when served over TLS: cookies become `__Host-` and Secure, HSTS is sent."
    )
    trusted_origins: list[str] = Field(
        default_factory=list,
        description="Origins, beside the request's own, that may post forms (JSON list), for example behind a proxy.",
    )
    session_days: int = Field(default=14, ge=1, description="Days a sign-in lasts without use.")
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024, description="Largest request body, bytes.")
    chat_max_body_bytes: int = Field(
        default=2**20, ge=1024, description="Largest request body under `/v1/`, the door for API clients, bytes."
    )
    chat_requests_per_minute: int = Field(
        default=60,
        ge=1,
        description="Requests under `/v1/` for each token and minute, where it has no own limit.",
    )
    chat_tokens_per_day: int = Field(
        default=2_000_000,
        ge=0,
        description="Tokens read and written under `/v1/` for each token and UTC day, where it has no own; 0: any.",
    )
    max_prompt_chars: int = Field(default=100_000, ge=1, description="Longest conversation accepted, characters.")

    admin_email: str = Field(default="", description="First admin, created when there is no user yet.")
    admin_password: SecretStr = Field(default=SecretStr(""), description="That admin's password.")

    trainer_command: list[str] = Field(
        default_factory=list,
        description="What starts the trainer, as a JSON list; empty: this Python with `-m worker.trainer`.",
    )
    round_lease_seconds: float = Field(
        default=30.0, gt=0, description="A round whose worker has been silent this long is taken over."
    )
    round_limit_seconds: float = Field(
        default=7 * 86_400.0, gt=0, description="Longest time one attempt at a round may take; then it fails."
    )
    trainer_silence_seconds: float = Field(
        default=1800.0, gt=0, description="A trainer that reports nothing for this long is taken for hung and ended."
    )
    reconcile_seconds: float = Field(
        default=10.0, gt=0, le=60, description="How often beat looks in Postgres for work that is due."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Shape of the log lines.")

    @property
    def versions_dir(self) -> Path:
        """Published versions, one directory per version id."""
        return self.data / "versions"

    @property
    def jobs_dir(self) -> Path:
        """Job directories of rounds, one per round id."""
        return self.data / "jobs"

    @property
    def reference_dir(self) -> Path:
        """The store of reference log-probs, shared by all rounds."""
        return self.data / "reference"

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with the driver that Hone uses (psycopg 3) named in it."""
        for prefix in ("postgresql://", "postgres://"):
            if self.database_url.startswith(prefix):
                return "postgresql+psycopg://" + self.database_url.removeprefix(prefix)
        return self.database_url
