"""Files that change while several threads read the folder."""

from threading import Event, Thread

from machines_server.inventory.folder import RegistryFiles
from tests.inventory.texts import good, names, write


def test_half_written_files_are_never_seen_by_sixteen_readers(files: RegistryFiles) -> None:
    path = files.folder / "alpha.yaml"
    whole = good("alpha", more="tags: [a, b, c]\n")
    half = whole[: len(whole) // 2]
    path.write_text(whole)
    files.current(0.0)
    stop, wrong = Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            seen = files.current(1.0)
            alpha = seen.get("alpha")
            if (
                names(seen) != ["alpha", "beta"]
                or alpha is None
                or alpha.declared.get("tags") != ["a", "b", "c"]
            ):
                wrong.append(str(names(seen)))

    threads = [Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    told = 0
    for _ in range(40):
        path.write_text(half)
        told += len(files.current(2.0).problems) > 0
        path.write_text(whole)
        assert files.current(3.0).problems == ()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert told == 40


def test_files_that_come_and_go_while_others_read_never_raise(files: RegistryFiles) -> None:
    stop, raised = Event(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                assert {"alpha", "beta"} <= set(names(files.current(1.0)))
        except (AssertionError, OSError, KeyError, RuntimeError) as error:
            raised.append(error)

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        write(files.folder, "gamma").unlink()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert raised == []
    assert names(files.current(2.0)) == ["alpha", "beta"]
