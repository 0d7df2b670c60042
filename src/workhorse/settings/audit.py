"""The settings of the audit log."""

from pathlib import Path

from pydantic import Field, SecretStr

from workhorse.settings.record import Names, Record

__all__ = ["AuditSettings"]


class AuditSettings(Record):
    """The audit log over the journal. It is sealed by `workhorse worker`, and in development by the service too."""

    origin: str = Field(default="", description="The log's name, such as `bank.example/audit`; empty: none is kept.")
    key: SecretStr | None = Field(default=None, description="The private key that signs, from `workhorse audit key`.")
    key_file: Path | None = Field(
        default=None, description="The file of that key instead, for development. Production refuses it."
    )
    insecure_key_file: bool = Field(default=False, description="Take it in production, where it is a mounted secret.")
    older_keys: Names = Field(default=(), description="The public keys of earlier signers.")
    anchor_file: Path | None = Field(
        default=None, description="A file that each signed checkpoint is appended to, best on another machine's disk."
    )
    anchor_s3: str = Field(
        default="", description="`s3://bucket/prefix` with Object Lock, where checkpoints are kept that nobody deletes."
    )
    anchor_s3_days: int = Field(default=3650, ge=1, le=36_500, description="For how long they cannot be deleted.")
    anchor_s3_tiles: bool = Field(
        default=True, description="Publish the log there too, as static files without the events' data."
    )
    anchor_s3_every_seconds: float = Field(
        default=60.0, ge=0, le=86_400, description="Pause between two checkpoints that are kept there."
    )
    ready_behind_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="A worker whose sealer stands still, or leaves an event waiting, for longer is not ready.",
    )
    serve_at: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*$",
        max_length=200,
        description="A path such as `/audit-log`, below which the service shows the log; it needs a policy.",
    )
    batch: int = Field(default=1000, ge=1, le=5000, description="Events that are sealed in one transaction at most.")
    sign_every_seconds: float = Field(default=1.0, ge=0, le=3600, description="Pause between two signatures.")
    witnesses: Names = Field(
        default=(), description="Who is asked to sign checkpoints too, each `PUBLIC_KEY URL`, such as another team's."
    )
    witness_quorum: int = Field(
        default=0, ge=0, le=20, description="How many of them must have signed what exports and proofs end with."
    )
    witness_every_seconds: float = Field(
        default=10.0, ge=0.1, le=3600, description="Pause between two questions to a witness."
    )
