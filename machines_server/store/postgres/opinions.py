"""Questions among pollers: does another one reach machines that the asker does not?"""

from collections.abc import Callable, Collection, Sequence

from machines_server.store.postgres.database import Database

_KEEP_OPINIONS_MS = 60_000
_HAS_OTHERS = """
SELECT EXISTS (SELECT FROM poller WHERE site = %s AND id != %s AND expires_at_ms > now_ms()
    AND rests_until_ms <= now_ms())"""
_ASK_OTHERS = """
INSERT INTO opinion (site, asker, asked_at_ms, machines) VALUES (%s, %s, now_ms(), %s) RETURNING id"""
_FORGET_OPINIONS = "DELETE FROM opinion WHERE asked_at_ms < now_ms() - %s"
_TAKE_QUESTIONS = """
UPDATE opinion SET answerer = %(me)s WHERE id = ANY(
    SELECT id FROM opinion WHERE site = %(site)s AND asker != %(me)s AND answerer IS NULL
        AND NOT EXISTS (SELECT FROM poller WHERE id = %(me)s AND rests_until_ms > now_ms())
    FOR UPDATE SKIP LOCKED)
RETURNING id, machines"""
_ANSWER_QUESTION = "UPDATE opinion SET reached = %s WHERE id = %s"
_ANSWER_TO = "SELECT reached FROM opinion WHERE id = %s"


class PostgresOpinions:
    """Implements Opinions for the poller whose id `me` returns."""

    def __init__(self, database: Database, site: str, me: Callable[[], str]) -> None:
        self._database, self._site, self._me = database, site, me

    def ask(self, machines: Sequence[str]) -> int | None:
        """Ask the other pollers about machines; returns the question's id, or None without other pollers."""
        with self._database.transaction() as connection:
            ((are_there,),) = connection.execute(_HAS_OTHERS, (self._site, self._me())).fetchall()
            if not are_there:
                return None
            connection.execute(_FORGET_OPINIONS, (_KEEP_OPINIONS_MS,))
            values = self._site, self._me(), list(machines)
            ((question,),) = connection.execute(_ASK_OTHERS, values).fetchall()
            return int(question)

    def answer_to(self, question: int) -> Collection[str] | None:
        """The machines that another poller has reached; None while none has answered."""
        with self._database.transaction() as connection:
            row = connection.execute(_ANSWER_TO, (question,)).fetchone()
            return None if row is None or row[0] is None else set(row[0])

    def take_questions(self) -> Sequence[tuple[int, Sequence[str]]]:
        """The questions of others that nobody else has taken; none while this process cannot reach hosts."""
        with self._database.transaction() as connection:
            values = {"site": self._site, "me": self._me()}
            return connection.execute(_TAKE_QUESTIONS, values).fetchall()

    def answer(self, question: int, reached: Sequence[str]) -> None:
        """Answer a question with the machines that this process reaches."""
        with self._database.transaction() as connection:
            connection.execute(_ANSWER_QUESTION, (list(reached), question))
