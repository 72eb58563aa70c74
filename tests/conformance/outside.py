"""Commands of the judge outside the runner: deliver mail, restart the core, break connections."""

from __future__ import annotations

import re
import smtplib
import time
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.policy import SMTPUTF8
from typing import Any

from tests.conformance.values import MESSAGES, ScenarioError
from tests.conformance.wires import Wire, Wires
from tests.harness.demo import Demo

COMMANDS = frozenset({"deliver", "restart_core", "hold_answers", "cut", "wait", "metric"})
RESTART_SECONDS = 30.0
_SAMPLE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Outside:
    """The judge's commands, by name."""

    def __init__(self, demo: Demo, wires: Wires, line: Wire) -> None:
        self._demo, self._wires, self._line = demo, wires, line
        self._configuration = demo.configuration.read_text(encoding="utf-8")
        self.commands: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "deliver": self.deliver,
            "restart_core": self.restart_core,
            "hold_answers": lambda command: self._wires.run(self._line.hold(command.get("after_octets", 0))),
            "cut": lambda _: self._wires.run(self._line.cut()),
            "wait": lambda command: time.sleep(command["milliseconds"] / 1_000),
            "metric": self.metric,
        }
        assert self.commands.keys() == COMMANDS

    def deliver(self, command: Mapping[str, Any]) -> None:
        """Deliver a message by SMTP."""
        if "message" in command:
            octets = (MESSAGES / command["message"]).read_bytes()
        else:
            message = EmailMessage(policy=SMTPUTF8)
            message["From"], message["To"], message["Subject"] = command["from"], command["to"], command["subject"]
            message.set_content(command.get("text", ""))
            octets = message.as_bytes()
        with smtplib.SMTP("127.0.0.1", self._demo.port("mx"), timeout=30) as smtp:
            smtp.sendmail(command["from"], [command["to"]], octets)

    def restart_core(self, command: Mapping[str, Any]) -> None:
        """Restart the core, with the command's keys in addition to the demo's."""
        sections: dict[str, list[str]] = {}
        for key, value in command.get("settings", {}).items():
            section, _, name = key.partition(".")
            sections.setdefault(section, []).append(f"{name} = {value}")
        added = "".join(f"\n[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())
        if any(f"[{name}]" in self._configuration for name in sections):
            raise ScenarioError("restart_core cannot change a section that the demo's configuration has")
        self._demo.configuration.write_text(self._configuration + added, encoding="utf-8")
        before = self._demo.children()["core"]
        if command.get("gracefully"):
            before.terminate()
        else:
            before.kill()
        until = time.monotonic() + RESTART_SECONDS
        while self._demo.children().get("core", before).pid == before.pid or not self._demo.ready():
            if time.monotonic() > until:
                raise RuntimeError(f"the core did not come back:\n{self._demo.log[-4_000:]}")
            time.sleep(0.05)

    def metric(self, command: Mapping[str, Any]) -> dict[str, float]:
        """The sum of a metric of the core over all samples with these labels; 0 without a sample."""
        url = f"http://127.0.0.1:{self._demo.port('core')}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        wanted = command.get("labels", {}).items()
        values = [
            float(sample["value"])
            for sample in map(_SAMPLE.fullmatch, text.splitlines())
            if sample is not None
            and sample["name"] == command["name"]
            and wanted <= dict(_LABEL.findall(sample["labels"] or "")).items()
        ]
        return {"value": sum(values)}
