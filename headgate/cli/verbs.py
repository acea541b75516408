"""All verbs, in the order that `headgate --help` shows them; one module each."""

from __future__ import annotations

import typer

from headgate.cli import (
    alerts,
    check,
    contract,
    decode,
    demo,
    features,
    lake,
    masks,
    quarantine,
    quarantine_redrive,
    run,
    status,
    tables,
    tables_backfill,
    tables_infer,
    tables_lint,
    tables_plan,
    tables_remove,
    tables_replay,
    tables_resync,
    tables_show,
    tenants,
    verify,
    version,
    views,
)

app = typer.Typer(
    name="headgate",
    help="Change events of databases, exactly once, into typed topics, Redis features, alerts and an Iceberg lake.",
    epilog="Every verb has examples and exit codes in its own --help. Start with: headgate demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo", short_help="See it work, with nothing but Python.", epilog=demo.EPILOG)(demo.demo)
app.command("run", short_help="Run the stages.", epilog=run.EPILOG)(run.run)
app.command("check", short_help="Check configuration and connections.", epilog=check.EPILOG)(check.check)
app.command("status", short_help="Show the workers of all machines.", epilog=status.EPILOG)(status.status)
app.add_typer(tables.app, name="tables")
app.add_typer(contract.app, name="contract")
app.add_typer(tenants.app, name="tenants")
app.command("decode", short_help="Show what records become.", epilog=decode.EPILOG)(decode.decode)
features.app.command("rebuild", short_help="Fill a table's views again.", epilog=views.REBUILD_EPILOG)(views.rebuild)
features.app.command("forget", short_help="Clear what a removed view left.", epilog=views.FORGET_EPILOG)(views.forget)
app.add_typer(features.app, name="features")
app.add_typer(alerts.app, name="alerts")
app.add_typer(lake.app, name="lake")
tables.app.command("infer", short_help="Propose specs from what flows.", epilog=tables_infer.EPILOG)(
    tables_infer.infer_tables
)
tables.app.command("lint", short_help="Say what is risky in specs.", epilog=tables_lint.EPILOG)(tables_lint.lint_tables)
tables.app.command("plan", short_help="Show what an apply would do.", epilog=tables_plan.PLAN_EPILOG)(
    tables_plan.plan_tables
)
tables.app.command("apply", short_help="Register the tables of a folder.", epilog=tables_plan.APPLY_EPILOG)(
    tables_plan.apply_tables
)
tables.app.command("show", epilog=tables_show.SHOW_EPILOG)(tables_show.show_table)
tables.app.command("export", epilog=tables_show.EXPORT_EPILOG)(tables_show.export_table)
tables.app.command("backfill", short_help="Have rows of a table read again.", epilog=tables_backfill.EPILOG)(
    tables_backfill.backfill_table
)
tables.app.command("resync", short_help="Take a table's rows anew.", epilog=tables_resync.EPILOG)(
    tables_resync.resync_table
)
tables.app.command("replay", short_help="Read a table's records again.", epilog=tables_replay.EPILOG)(
    tables_replay.replay_table
)
tables.app.command("remove", short_help="Register a table no more.", epilog=tables_remove.REMOVE_EPILOG)(
    tables_remove.remove_table_verb
)
quarantine.app.command("redrive", epilog=quarantine_redrive.EPILOG)(quarantine_redrive.redrive_records)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(masks.app, name="masks")
app.command("verify", short_help="Compare a table with its source database.", epilog=verify.EPILOG)(verify.verify)
app.command("version", short_help="Print the version.", epilog=version.EPILOG)(version.version)
