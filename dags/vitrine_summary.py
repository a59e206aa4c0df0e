"""What a night came to: a note on its run, the task's XCom, and, where the settings name a connection, mail or a
webhook. Secrets are in Airflow's connections."""

from typing import Any

import httpx
from airflow.sdk import BaseNotifier, Connection, Context
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from vitrine_tasks import SETTINGS, Verb

NOTE_LENGTH, SECONDS = 1000, 20  # Airflow refuses a longer note


class NightSummary(Verb):
    """``vitrine night``: the report written, what the run's verbs did said in a few lines (``text``)."""

    def __init__(self, **kwargs: Any) -> None:
        since = "{{ dag_run.start_date.isoformat() }}"
        super().__init__(arguments=["night", "--since", since], on_success_callback=notifiers(), **kwargs)
        self.text = ""

    def execute(self, context: Context) -> Any:
        figures = super().execute(context)
        self.text = figures["text"]
        write_note(context, self.text)
        return figures


def notifiers() -> list[BaseNotifier]:
    """Those that ``[airflow]`` asks for; by default none."""
    wanted: list[BaseNotifier] = []
    if SETTINGS.airflow.mail_to:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        wanted.append(
            SmtpNotifier(
                to=list(SETTINGS.airflow.mail_to),
                subject="Vitrine: the night of {{ dag_run.run_after | ds }}",
                html_content="<pre>{{ task.text | e }}</pre>",
                smtp_conn_id=SETTINGS.airflow.smtp_connection,
            )
        )
    if SETTINGS.airflow.webhook_connection:
        wanted.append(WebhookNotifier(SETTINGS.airflow.webhook_connection))
    return wanted


class WebhookNotifier(BaseNotifier):
    """Posts ``{"text", "dag_id", "run_id"}``; the connection's password, where it has one, goes as a bearer token."""

    def __init__(self, connection: str) -> None:
        super().__init__()
        self.connection = connection

    def notify(self, context: Context) -> None:
        found = Connection.get(self.connection)
        headers = {"Authorization": f"Bearer {found.password}"} if found.password else {}
        body = {"text": context["task"].text, "dag_id": context["dag"].dag_id, "run_id": context["run_id"]}
        httpx.post(_address(found), json=body, headers=headers, timeout=SECONDS).raise_for_status()


def write_note(context: Context, text: str) -> None:
    """``text`` as the note of the run, by Airflow's API: tasks have no other way. Without it, the log has the text."""
    try:
        api = Connection.get(SETTINGS.airflow.api_connection)
    except (AirflowNotFoundException, AirflowRuntimeError):
        print(f"no connection {SETTINGS.airflow.api_connection!r}: no note on the run")
        return
    run = f"/api/v2/dags/{context['dag'].dag_id}/dagRuns/{context['run_id']}"
    try:
        with httpx.Client(base_url=_address(api), timeout=SECONDS) as client:
            who = {"username": api.login, "password": api.password}
            given = client.post("/auth/token", json=who) if api.login else client.get("/auth/token")
            given.raise_for_status()
            token = {"Authorization": f"Bearer {given.json()['access_token']}"}
            client.patch(run, json={"note": text[:NOTE_LENGTH]}, headers=token).raise_for_status()
    except httpx.HTTPError as error:
        print(f"no note on the run: {type(error).__name__} from Airflow's API")


def _address(connection: Any) -> str:
    """An HTTP connection as Airflow's HTTP hook reads it: the host may bring its scheme and path along."""
    host = connection.host or ""
    base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    return f"{base}:{connection.port}" if connection.port else base
