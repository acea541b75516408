"""What happens in the town: who falls ill, who uses how much, and the moments that the demo is about."""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from headgate.demo.connector import TownConnector
from headgate.demo.database import TownDatabase

WATCHED_PATIENT = 42
WATCHED_CUSTOMER = 7
_PATIENTS = range(40, 52)
_CUSTOMERS = range(1, 13)
_FIRST = ("Ada", "Bo", "Chidi", "Dana", "Emil", "Fatma", "Goran", "Hana", "Ines", "Jun", "Kofi", "Lena")
_LAST = ("Okafor", "Berg", "Novak", "Silva", "Yilmaz", "Moreau", "Larsen", "Ito", "Rossi", "Weber", "Diaz", "Kaya")
_WARDS = ("cardiology", "surgery", "intensive care", "geriatrics")
_CITIES = ("Altstadt", "Hafen", "Nordend")
_TESTS = (("glucose", 4.2, 7.8, "mmol/l"), ("potassium", 3.6, 5.0, "mmol/l"), ("creatinine", 60.0, 105.0, "umol/l"))
GLUCOSE_CRITICAL = 19.4
KWH_FAR_TOO_HIGH = "9731.250"


@dataclass(frozen=True, slots=True)
class Beat:
    """A moment of the story: what people read, and what is done."""

    at_seconds: float
    text: str
    act: Callable[[], object]


class Story:
    """Changes the database as time goes by; the same seed tells the same story."""

    def __init__(self, database: TownDatabase, connector: TownConnector, *, seed: int) -> None:
        """Begin with an empty town."""
        self._database, self._connector = database, connector
        self._random = random.Random(seed)
        self._lab = 1_000
        self._reading = 5_000
        self._away: list[int] = []

    def settle(self) -> None:
        """Fill the town: what the snapshot will find."""
        now = _now()
        with self._database.transaction() as db:
            for number, key in enumerate(_PATIENTS):
                row = (
                    key,
                    f"{_FIRST[number]} {_LAST[number]}",
                    f"19{40 + 4 * number}-0{1 + number % 9}-17",
                    self._ward(),
                    1,
                    None,
                    now,
                )
                db.execute("INSERT INTO patients VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for number, key in enumerate(_CUSTOMERS):
                home = (
                    key,
                    f"{_LAST[number]} household",
                    _CITIES[number % 3],
                    "standard",
                    f"{300 + 25 * number}.000",
                    now,
                )
                db.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?)", home)

    def beats(self, seconds: float) -> list[Beat]:
        """Return the moments of a demo of so many seconds: soon each kind once, then again every 20 seconds."""
        first = [
            Beat(1.5, f"patient {WATCHED_PATIENT}: glucose {GLUCOSE_CRITICAL} mmol/l, critical", self.critical_glucose),
            Beat(3.0, f"customer {WATCHED_CUSTOMER}: a meter reading of {KWH_FAR_TOO_HIGH} kWh", self.meter_too_high),
            Beat(5.0, f"patient {WATCHED_PATIENT} is moved twice", self.move_twice),
            Beat(
                6.5,
                "the connector restarts and sends an older change again, behind the newer one",
                self._connector.send_late,
            ),
            Beat(8.0, "half a record arrives", self._connector.send_broken),
        ]
        again = [
            Beat(beat.at_seconds + start, beat.text, beat.act)
            for start in range(20, int(seconds), 20)
            for beat in first
            if beat.at_seconds + start < seconds
        ]
        return [*first, *again]

    def tick(self) -> None:
        """Let a quarter of a second of ordinary life pass."""
        with self._database.transaction() as db:
            self._lab_result(db, self._random.choice(_PATIENTS))
            for _ in range(self._random.randint(1, 3)):
                self._meter_reading(db, self._random.choice(_CUSTOMERS), f"{self._random.uniform(0.1, 4.0):.3f}")
        match self._random.randrange(12):
            case 0:
                self._move(self._random.choice(_PATIENTS))
            case 1:
                self._change_tariff()
            case 2:
                self._discharge_or_admit()
            case 3:
                self._correct_result()
            case 4:
                self._delete_reading()

    def critical_glucose(self) -> None:
        """Report the value that a rule waits for."""
        with self._database.transaction() as db:
            self._lab_result(db, WATCHED_PATIENT, ("glucose", GLUCOSE_CRITICAL, GLUCOSE_CRITICAL, "mmol/l"))

    def meter_too_high(self) -> None:
        """Report a reading that no household has."""
        with self._database.transaction() as db:
            self._meter_reading(db, WATCHED_CUSTOMER, KWH_FAR_TOO_HIGH)

    def move_twice(self) -> None:
        """Change one patient's row twice, so that the first change can come late."""
        self._move(WATCHED_PATIENT)
        self._move(WATCHED_PATIENT)

    def _lab_result(
        self, db: sqlite3.Connection, patient: int, test: tuple[str, float, float, str] | None = None
    ) -> None:
        name, low, high, unit = test or self._random.choice(_TESTS)
        self._lab += 1
        value = round(self._random.uniform(low, high), 1)
        db.execute("INSERT INTO lab_results VALUES (?, ?, ?, ?, ?, ?)", (self._lab, patient, name, value, unit, _now()))

    def _meter_reading(self, db: sqlite3.Connection, customer: int, kwh: str) -> None:
        self._reading += 1
        db.execute("INSERT INTO meter_readings VALUES (?, ?, ?, ?)", (self._reading, customer, kwh, _now()))

    def _move(self, patient: int) -> None:
        with self._database.transaction() as db:
            now = _now()
            note = f"moved at {now[11:19]}"
            db.execute(
                "UPDATE patients SET ward = ?, note = ?, updated_at = ? WHERE id = ?",
                (self._ward(), note, now, patient),
            )

    def _change_tariff(self) -> None:
        tariff = self._random.choice(("standard", "night", "green"))
        with self._database.transaction() as db:
            row = (tariff, _now(), self._random.choice(_CUSTOMERS))
            db.execute("UPDATE customers SET tariff = ?, updated_at = ? WHERE id = ?", row)

    def _discharge_or_admit(self) -> None:
        """Delete a patient's row, or bring back one that was deleted; the watched one stays."""
        with self._database.transaction() as db:
            if self._away:
                key = self._away.pop()
                row = (key, f"{_FIRST[key - 40]} {_LAST[key - 40]}", None, self._ward(), 1, "admitted again", _now())
                db.execute("INSERT INTO patients VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            else:
                key = self._random.choice([key for key in _PATIENTS if key != WATCHED_PATIENT])
                db.execute("DELETE FROM patients WHERE id = ?", (key,))
                self._away.append(key)

    def _correct_result(self) -> None:
        with self._database.transaction() as db:
            key = self._random.randint(1_001, self._lab)
            db.execute(
                "UPDATE lab_results SET unit = unit || ' (corrected)' WHERE id = ? AND length(unit) < 10", (key,)
            )

    def _delete_reading(self) -> None:
        with self._database.transaction() as db:
            db.execute(
                "DELETE FROM meter_readings WHERE id = ?", (self._random.randint(5_001, max(5_001, self._reading)),)
            )

    def _ward(self) -> str:
        return self._random.choice(_WARDS)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
