"""What a night came to, in a few lines: as a note on its run, as the task's XCom, and, where the settings name a
connection, by mail or to a webhook. Secrets are in Airflow's connections."""

from typing import Any

import httpx
from airflow.sdk import BaseNotifier, Connection, Context
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from vitrine_tasks import SETTINGS, Verb

NOTE_LENGTH, SECONDS = 1000, 20  # Airflow refuses a longer note


class NightSummary(Verb):
    """``vitrine night``: writes the report; ``text`` becomes what the run's verbs did, in a few lines."""

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
        receiver = Connection.get(self.connection)
        headers = {"Authorization": f"Bearer {receiver.password}"} if receiver.password else {}
        body = {"text": context["task"].text, "dag_id": context["dag"].dag_id, "run_id": context["run_id"]}
        httpx.post(_address(receiver), json=body, headers=headers, timeout=SECONDS).raise_for_status()


def write_note(context: Context, text: str) -> None:
    """Make ``text`` the note of the run, by Airflow's API: a task has no other way.

    Without the connection or an answer, the log says so: the text is in it anyway.
    """
    try:
        api = Connection.get(SETTINGS.airflow.api_connection)
    except (AirflowNotFoundException, AirflowRuntimeError):
        print(f"no connection {SETTINGS.airflow.api_connection!r}: no note on the run")
        return
    run = f"/api/v2/dags/{context['dag'].dag_id}/dagRuns/{context['run_id']}"
    try:
        with httpx.Client(base_url=_address(api), timeout=SECONDS) as client:
            user = {"username": api.login, "password": api.password}
            answer = client.post("/auth/token", json=user) if api.login else client.get("/auth/token")
            answer.raise_for_status()
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            client.patch(run, json={"note": text[:NOTE_LENGTH]}, headers=headers).raise_for_status()
    except httpx.HTTPError as error:
        print(f"no note on the run: {type(error).__name__} from Airflow's API")


def _address(connection: Any) -> str:
    """An HTTP connection as Airflow's HTTP hook reads it: the host may bring its scheme and path along."""
    host = connection.host or ""
    base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    return f"{base}:{connection.port}" if connection.port else base
