"""The groups of the roles, with their permissions."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations

from clinic.records.roles import ROLES


def make_roles(apps: Any, _: Any) -> None:
    """Make each group, with permissions that Django otherwise makes only after the last migration."""
    config = apps.get_app_config("records")
    config.models_module = True
    create_permissions(config, apps=apps, verbosity=0)
    config.models_module = None
    group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, codenames in ROLES.items():
        role, _ = group.objects.get_or_create(name=name)
        role.permissions.set(permission.objects.filter(content_type__app_label="records", codename__in=codenames))


class Migration(migrations.Migration):
    """Forward only: a role that was given is not taken back by a migration."""

    dependencies = [("records", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
