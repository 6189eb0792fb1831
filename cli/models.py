"""`musicgen models`: add, list and remove fine-tunes of a service that runs, with the service's own settings."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictions.fine_tunes.record import FineTune
    from predictions.models.registry import ModelEntry, Registry
    from predictions.models.served import ServedModel
    from predictions.record.store import PredictionStore
    from predictions.settings import Settings
    from predictions.storage.protocol import AudioStorage
    from predictions.tenants import Tenant

NOT_CHECKED = "Whether the adapter fits its base cannot be said on this machine; its first prediction will tell."
COLUMNS = ("VERSION", "TENANT", "VISIBILITY", "BASE", "RANK", "CREATED")


@dataclass(frozen=True)
class _Service:
    settings: Settings
    store: PredictionStore
    storage: AudioStorage


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("models", help="add, list and remove fine-tunes while the service runs")
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add = actions.add_parser("add", help="add an adapter (LoRA) as a version of a fine-tune")
    add.add_argument("folder", type=Path, metavar="FOLDER", help="as peft writes it")
    add.add_argument("--name", required=True, metavar="OWNER/NAME", help="the fine-tune's; it is made where it is new")
    add.add_argument("--base", metavar="OWNER/NAME", help="the served model that it changes; default: the only one")
    add.add_argument("--public", action="store_true", help="every tenant may use it; default: its own tenant alone")
    add.add_argument("--description", metavar="TEXT", help="shown to those who may use it")
    add.add_argument("--tenant", metavar="NAME", help="whose it is; default: the only one")
    add.set_defaults(execute=_add)
    actions.add_parser("list", help="list the fine-tunes of all tenants").set_defaults(execute=_list)
    remove = actions.add_parser("remove", help="remove a fine-tune, or one version of it")
    remove.add_argument("reference", metavar="OWNER/NAME[:VERSION]")
    remove.set_defaults(execute=_remove)


def _add(args: argparse.Namespace) -> int:
    from predictions.fine_tunes import commands
    from predictions.fine_tunes.record import Visibility
    from predictions.fine_tunes.storing import store_adapter
    from predictions.models.registry import NAME, load_registry

    if not re.fullmatch(NAME, args.name):
        raise SystemExit(f"--name {args.name}: a name is owner/name, of letters, digits, '.', '_' and '-'.")
    _refuse_whole_models(args.folder, args.name)
    with _service() as service:
        registry = load_registry(service.settings)
        base = _base(service, registry, args.base)
        if args.name in {base.name, *(entry.name for entry in registry.entries)}:
            raise SystemExit(f"--name {args.name}: the registry has a model of that name; choose another one.")
        tenant = _tenant(service.settings, args.tenant)
        _require_fit(args.folder, base.entry)
        visibility = Visibility.PUBLIC if args.public else Visibility.PRIVATE
        found = _find(service.store, args.name)
        if found is None:
            service.store.run(commands.create(args.name, tenant.owner, visibility, args.description))
        elif found.tenant != tenant.owner:
            raise SystemExit(f"--name {args.name}: it belongs to another tenant; choose another name.")
        elif args.public or args.description:
            kept = found.visibility if not args.public else visibility
            description = args.description or found.description
            service.store.run(commands.change(args.name, tenant.owner, kept, description))
        version = store_adapter(
            service.store, service.storage, args.name, tenant.owner, args.folder, base.name, base.card.version
        )
    print(f"{args.name}:{version.id}")
    return 0


def _list(_: argparse.Namespace) -> int:
    from cli.terminal import print_table
    from predictions.fine_tunes import commands

    with _service() as service:
        tenants = _tenants(service.settings)
        found = [
            (fine_tune, tenant.name)
            for tenant in tenants
            for fine_tune in service.store.run(commands.visible_to(tenant.owner))
            if fine_tune.tenant == tenant.owner
        ]
    print_table([COLUMNS, *(row for fine_tune, tenant in found for row in _rows(fine_tune, tenant))])
    return 0


def _remove(args: argparse.Namespace) -> int:
    from predictions.fine_tunes import commands

    name, _, version_id = args.reference.partition(":")
    with _service() as service:
        fine_tune = _find(service.store, name)
        known = {version.id: version for version in fine_tune.versions} if fine_tune else {}
        if fine_tune is None or (version_id and version_id not in known):
            raise SystemExit(f"There is no fine-tune {args.reference}; `musicgen models list` lists them.")
        for version in [known[version_id]] if version_id else known.values():
            if service.store.run(commands.delete_version(name, fine_tune.tenant, version.id)):
                service.storage.delete_prefix(version.prefix)
        if not version_id:
            service.store.run(commands.delete(name, fine_tune.tenant))
    print(f"{args.reference} is removed.")
    return 0


@contextmanager
def _service() -> Iterator[_Service]:
    """The service's Redis and storage. Raises SystemExit with one line where they cannot be used."""
    from pydantic import SecretStr

    from cli.redis_server import address_of
    from predictions.errors import PredictionError
    from predictions.record.store import PredictionStore
    from predictions.settings import load_settings
    from predictions.storage import open_storage

    settings = load_settings()
    if "redis_url" not in settings.model_fields_set and (address := address_of(settings.data_dir)) is not None:
        settings = settings.model_copy(update={"redis_url": address})
    with ExitStack() as cleanup:
        store = PredictionStore(settings.redis_url)
        cleanup.callback(store.close)
        if not store.is_reachable():
            raise SystemExit(
                f"The service's Redis does not answer at {settings.redis_url}; start the service, or set "
                "MUSICGEN_REDIS_URL or MUSICGEN_DATA_DIR as it has them."
            )
        # Only a URL's signature needs the secret, and none is made here.
        storage = open_storage(settings.model_copy(update={"secret": SecretStr("any secret will do")}))
        try:
            yield _Service(settings, store, storage)
        except PredictionError as error:
            raise SystemExit(f"musicgen models: {error}") from error


def _refuse_whole_models(folder: Path, name: str) -> None:
    from predictions.fine_tunes.record import CONFIG

    if (folder / CONFIG).is_file():
        return
    if (folder / "config.json").is_file():
        raise SystemExit(
            f"{folder} is a whole model, which has workers of its own. Add it to the registry that MUSICGEN_MODELS "
            f"names, and restart the service (docs/models.md):\n\n[[models]]\nname = {json.dumps(name)}\n"
            f"source = {json.dumps(str(folder.resolve()))}"
        )
    raise SystemExit(
        f"{folder} is no adapter: it has no {CONFIG}. If it is a checkpoint of audiocraft's, convert it with `musicgen "
        "convert`, and add the result to the registry (docs/models.md)."
    )


def _base(service: _Service, registry: Registry, name: str | None) -> ServedModel:
    from predictions.models import announcements
    from predictions.models.served import served_models

    deployment = service.store.run(announcements.deployment())
    models = served_models(registry, deployment)
    known = ", ".join(model.name for model in models)
    if name is None and len(models) > 1:
        raise SystemExit(f"There are several models: say with --base which one the adapter changes: {known}.")
    for model in models:
        if name in (None, model.name):
            if not model.versions:
                raise SystemExit(f"No worker has announced {model.name} yet; start one, and try again.")
            return model
    raise SystemExit(f"--base {name}: it is not served here; there are {known}.")


def _require_fit(folder: Path, base: ModelEntry) -> None:
    """Load the adapter where what that takes is here; raises SystemExit where it does not fit the base."""
    if find_spec("torch") is None:
        print(NOT_CHECKED, file=sys.stderr)
        return
    from musicgen_core import CheckpointError
    from musicgen_core.adapters.peft_format import load_adapter
    from musicgen_core.checkpoints import hub
    from musicgen_core.checkpoints.config import read_config
    from musicgen_core.engine.batch_decoder import MAX_ADAPTER_RANK

    hub_id = hub.HubId.parse(base.source)
    if hub_id is not None and not Path(base.source).is_dir() and not hub.is_cached(hub_id):
        print(NOT_CHECKED, file=sys.stderr)
        return
    try:
        rank = load_adapter(folder, read_config(hub.resolve(base.source))).rank
    except CheckpointError as error:
        raise SystemExit(f"musicgen models: {error}") from error
    if rank > MAX_ADAPTER_RANK:
        raise SystemExit(f"{folder} has rank {rank}; workers take up to {MAX_ADAPTER_RANK}.")


def _tenants(settings: Settings) -> Sequence[Tenant]:
    from app.tokens import Tokens

    return Tokens(settings.api_tokens, settings.tokens_file).tenants()


def _tenant(settings: Settings, name: str | None) -> Tenant:
    tenants = _tenants(settings)
    known = ", ".join(tenant.name for tenant in tenants)
    if name is None and len(tenants) > 1:
        raise SystemExit(f"There are several tenants: say with --tenant whose the fine-tune is: {known}.")
    for tenant in tenants:
        if name in (None, tenant.name):
            return tenant
    raise SystemExit(f"--tenant {name}: there is no such tenant; there are {known}.")


def _find(store: PredictionStore, name: str) -> FineTune | None:
    from predictions.errors import ModelNotFound
    from predictions.fine_tunes import commands

    try:
        return store.run(commands.get(name))
    except ModelNotFound:
        return None


def _rows(fine_tune: FineTune, tenant: str) -> Iterator[tuple[str, ...]]:
    if not fine_tune.versions:
        yield fine_tune.name, tenant, fine_tune.visibility, "-", "-", f"{fine_tune.created_at:%Y-%m-%d %H:%M}"
    for version in fine_tune.versions:
        created = f"{version.created_at:%Y-%m-%d %H:%M}"
        reference = f"{fine_tune.name}:{version.id}"
        yield reference, tenant, fine_tune.visibility, version.base, str(version.rank), created
