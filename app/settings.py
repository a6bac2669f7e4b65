"""Hone's settings: one typed object, read from the environment (``HONE_*``) once and passed down."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


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
    trusted_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins, beside the request's own, that may post forms, with commas between them (or as a JSON "
        "list), for example behind a proxy.",
    )
    session_days: int = Field(default=14, ge=1, description="Days a sign-in lasts without use.")
    session_max_days: int = Field(
        default=30, ge=1, description="Days after which a sign-in ends, however much it is used."
    )
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
    chat_person_keys: int = Field(
        default=5,
        ge=0,
        description="As many keys' worth of requests and tokens one person may use under `/v1/`, however many keys "
        "they have; 0: any. Keys with limits of their own do not count.",
    )
    max_prompt_chars: int = Field(default=100_000, ge=1, description="Longest conversation accepted, characters.")

    admin_email: str = Field(default="", description="First admin, created when there is no user yet.")
    admin_password: SecretStr = Field(default=SecretStr(""), description="That admin's password.")

    trainer_command: Annotated[list[str], NoDecode] = Field(
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
    metrics_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token that `/metrics` asks for. Empty: this machine alone reads it, and through no proxy.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Shape of the log lines.")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: str) -> str:
        if value:
            try:
                scheme = make_url(value).drivername
            except (ArgumentError, ValueError):
                scheme = ""
            if scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
                raise ValueError("no address of a Postgres; give it as postgresql://user:password@host:5432/name")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if value and not _is_address(value, {"redis", "rediss", "redis+socket"}):
            raise ValueError("no address of a Redis; give it as redis://:password@host:6379/0, or redis+socket:///path")
        return value

    @field_validator("engine_url")
    @classmethod
    def _is_engine(cls, value: str) -> str:
        for url in filter(None, map(str.strip, value.split(","))):
            if not _is_address(url, {"http", "https"}) or not urlsplit(url).hostname:
                raise ValueError("no address of an engine; give it as http://host:8100")
        return value

    @field_validator("trusted_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        listed = _json_list(value) if value.lstrip().startswith("[") else value.split(",")
        origins = [origin.strip() for origin in listed if origin.strip()]
        for origin in origins:
            if not _is_address(origin, {"http", "https"}):
                raise ValueError(f"{origin!r} is no origin; give it as https://hone.example.org")
        return origins

    @field_validator("trainer_command", mode="before")
    @classmethod
    def _command(cls, value: Any) -> Any:
        return _json_list(value) if isinstance(value, str) else value

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


def _is_address(value: str, schemes: set[str]) -> bool:
    """Whether it is a URL of one of ``schemes`` whose port, if it has one, is a number."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - raises when it is none
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc or parts.path)


def _json_list(value: str) -> list[str]:
    if not value.strip():
        return []
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
        raise ValueError('no JSON list of texts; give it as ["python", "-m", "name"]')
    return found
