"""Who is let in: hashes, accounts, what is remembered and for how long, and how many failed attempts are borne."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from medsharp.errors import InputError
from serve.security import accounts
from serve.security.access import Access
from serve.security.accounts import Accounts, add_account, key, new_key, read_accounts, remove_account, user
from serve.security.hashes import KEY_COST, PASSWORD_COST, Cost, ScryptHash
from serve.security.login import Login, RefusedError
from serve.security.throttle import Remembered, Throttle

CHEAP = Cost(4, 1, 1)
WARD = "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "KEY_COST", CHEAP)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def bearer(text: str) -> str:
    return f"Bearer {text}"


KEY = "pacs.0123456789abcdef0123"


def make(clock: Clock) -> Login:
    return Login(Accounts([user("anna", "pa:ss wörd", CHEAP), user("bert", "other", CHEAP), key(KEY)]), clock)


def ask(login: Login, header: str | None, address: str | None = WARD) -> Access:
    return asyncio.run(login.who(header, address))


def refused(login: Login, header: str | None, address: str | None = WARD) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        ask(login, header, address)
    return caught.value


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The secrets that scrypt was asked about."""
    asked: list[bytes] = []
    really = ScryptHash.matches

    def counted(self: ScryptHash, secret: bytes) -> bool:
        asked.append(secret)
        return really(self, secret)

    monkeypatch.setattr(ScryptHash, "matches", counted)
    return asked


def test_users_and_keys_are_known_by_what_they_bring(clock: Clock) -> None:
    login = make(clock)
    anna = ask(login, basic("anna", "pa:ss wörd"))
    assert (anna.name, anna.means, anna.address) == ("anna", "password", WARD)
    pacs = ask(login, bearer(KEY))
    assert (pacs.name, pacs.means) == ("pacs", "key")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Digest x",
        basic("anna", ""),
        basic("", "pa:ss wörd"),
        basic("anna", "other"),
        basic("bert", "pa:ss wörd"),
        basic("anna", "pa:ss wörd "),
        basic("Anna", "pa:ss wörd"),
        basic("pacs", KEY.partition(".")[2]),
        bearer("anna.pa:ss wörd"),
        bearer(KEY[:-1]),
        bearer(KEY + "0"),
        bearer("pacs."),
        bearer("pacs"),
        bearer("." + KEY.partition(".")[2]),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        basic("anna", "x" * 5000),
    ],
)
def test_all_else_is_401_and_says_how_to_log_in(clock: Clock, header: str | None) -> None:
    error = refused(make(clock), header)
    assert error.status == 401
    assert [value.split()[0] for _, value in error.headers] == ["Basic", "Bearer"]


def test_a_browser_is_not_asked_where_there_are_keys_alone(clock: Clock) -> None:
    error = refused(Login(Accounts([key(KEY)]), clock), None)
    assert [value.split()[0] for _, value in error.headers] == ["Bearer"]


def test_what_was_right_is_checked_again_after_its_time_and_not_before(clock: Clock, checks: list[bytes]) -> None:
    login = make(clock)
    for _ in range(5):
        ask(login, basic("anna", "pa:ss wörd"))
    assert len(checks) == 1
    clock.now += 299
    ask(login, basic("anna", "pa:ss wörd"))
    assert len(checks) == 1
    clock.now += 2
    ask(login, basic("anna", "pa:ss wörd"))
    assert len(checks) == 2


def test_what_is_remembered_is_no_secret_and_bounded(clock: Clock) -> None:
    remembered = Remembered(3, clock)
    for number in range(10):
        remembered.add(number, 60)
    assert len(remembered) == 3
    assert 9 in remembered
    assert 6 not in remembered
    login = make(clock)
    ask(login, basic("anna", "pa:ss wörd"))
    assert "pa:ss" not in repr(vars(login._right))


def test_an_unknown_name_costs_one_check_too(clock: Clock, checks: list[bytes]) -> None:
    refused(make(clock), basic("nobody", "guess"))
    assert checks == [b"guess"]
    given = Accounts([user("anna", "x", Cost(5, 2, 1))])
    assert given.decoy("user").cost == Cost(5, 2, 1)


def test_right_ones_are_not_counted_however_many(clock: Clock) -> None:
    login = make(clock)
    for _ in range(60):
        login._right.clear()
        ask(login, basic("anna", "pa:ss wörd"))


def test_a_first_storm_of_one_right_key_is_one_check_and_let_in_whole(clock: Clock, checks: list[bytes]) -> None:
    login = make(clock)

    async def storm() -> None:
        await asyncio.gather(*(login.who(bearer(KEY), WARD) for _ in range(50)))

    asyncio.run(storm())
    assert len(checks) == 1


def test_sixth_wrong_password_of_a_user_at_an_address_waits(clock: Clock, checks: list[bytes]) -> None:
    login = make(clock)
    for number in range(5):
        assert refused(login, basic("anna", f"guess {number}")).status == 401
    error = refused(login, basic("anna", "guess 6"))
    assert error.status == 429
    assert error.headers == [("Retry-After", "30")]
    assert len(checks) == 5
    # Not even the right one is tried then; another user of the address is.
    assert refused(login, basic("anna", "pa:ss wörd")).status == 429
    assert ask(login, basic("bert", "other")).name == "bert"
    assert ask(login, basic("anna", "pa:ss wörd"), "192.0.2.2").name == "anna"
    clock.now += 29
    assert refused(login, basic("anna", "guess")).status == 429
    clock.now += 1.5
    assert ask(login, basic("anna", "pa:ss wörd")).name == "anna"


def test_attempts_at_one_moment_are_counted_before_they_fail(clock: Clock, checks: list[bytes]) -> None:
    login = make(clock)

    async def storm() -> list[object]:
        guesses = (login.who(basic("anna", f"guess {n}"), WARD) for n in range(40))
        return list(await asyncio.gather(*guesses, return_exceptions=True))

    answers = asyncio.run(storm())
    assert [answer.status for answer in answers if isinstance(answer, RefusedError)].count(401) == 5
    assert len(checks) == 5


def test_the_same_wrong_one_at_one_moment_is_one_check_and_counts_each_time(clock: Clock, checks: list[bytes]) -> None:
    login = make(clock)

    async def storm() -> None:
        guesses = (login.who(basic("anna", "guess"), WARD) for _ in range(6))
        await asyncio.gather(*guesses, return_exceptions=True)

    asyncio.run(storm())
    assert len(checks) == 1
    assert refused(login, basic("anna", "guess")).status == 429


def test_names_tried_from_one_address_wait_and_other_addresses_do_not(clock: Clock) -> None:
    login = make(clock)
    statuses = [refused(login, basic(f"name {n}", "x")).status for n in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    assert refused(login, basic("bert", "other")).status == 429
    assert ask(login, basic("bert", "other"), "192.0.2.9").name == "bert"


def test_a_user_tried_from_many_addresses_waits_and_who_works_goes_on(clock: Clock) -> None:
    login = make(clock)
    ask(login, basic("anna", "pa:ss wörd"), "192.0.2.200")
    statuses = [refused(login, basic("anna", "x"), f"198.51.100.{n}").status for n in range(60)]
    assert statuses == [401] * 50 + [429] * 10
    # From where she worked before, also after what is remembered has run out.
    login._right.clear()
    assert ask(login, basic("anna", "pa:ss wörd"), "192.0.2.200").name == "anna"
    assert ask(login, basic("bert", "other"), "198.51.100.1").name == "bert"


def test_remembered_one_is_let_in_whatever_others_at_its_address_do(clock: Clock) -> None:
    login = make(clock)
    ask(login, basic("bert", "other"))
    for n in range(25):
        refused(login, basic(f"name {n}", "x"))
        refused(login, basic("bert", f"x{n}"))
    assert ask(login, basic("bert", "other")).name == "bert"


def test_names_that_do_not_exist_are_treated_alike_and_push_none_out(clock: Clock) -> None:
    login = make(clock)
    statuses = [refused(login, basic("nobody", "x"), f"198.51.{n}.1").status for n in range(60)]
    assert statuses == [401] * 50 + [429] * 10
    assert len(login._by_name) == 0


def test_addresses_of_one_ipv6_network_are_one(clock: Clock) -> None:
    login = make(clock)
    for n in range(5):
        refused(login, basic("anna", "x"), f"2001:db8::{n:x}")
    assert refused(login, basic("anna", "x"), "2001:db8::ffff").status == 429
    assert refused(login, basic("anna", "x"), "2001:db8:0:1::1").status == 401
    for _ in range(5):
        refused(login, basic("bert", "x"), "::ffff:192.0.2.77")
    assert refused(login, basic("bert", "x"), "192.0.2.77").status == 429


def test_throttle_forgets_the_longest_ago_and_fills_up_again(clock: Clock) -> None:
    throttle = Throttle(2, 10.0, clock, remembered=100)
    for number in range(1000):
        throttle.take(number)
    assert len(throttle) == 100
    throttle.take(999)
    assert throttle.wait(999) == 10.0
    assert throttle.wait(0) == 0
    clock.now += 4
    assert throttle.wait(999) == pytest.approx(6.0)
    throttle.give_back(999)
    assert throttle.wait(999) == 0
    clock.now += 1000
    throttle.give_back(998)
    assert throttle.wait(998) == 0
    assert len(throttle) == 99


def test_hash_is_scrypt_in_its_usual_form_and_salted() -> None:
    one, two = (ScryptHash.of(b"secret", CHEAP) for _ in range(2))
    assert str(one) != str(two)
    assert str(one).startswith("$scrypt$ln=4,r=1,p=1$")
    assert one.digest == hashlib.scrypt(b"secret", salt=one.salt, n=16, r=1, p=1, dklen=32)
    again = ScryptHash.parse(str(one))
    assert again == one
    assert again.matches(b"secret")
    assert not again.matches(b"secret2")
    assert not ScryptHash.nobodys(CHEAP).matches(b"")


def test_costs_are_those_that_are_recommended_and_bounded() -> None:
    assert (PASSWORD_COST.ln, PASSWORD_COST.r, PASSWORD_COST.p) == (15, 8, 3)
    assert PASSWORD_COST.memory == 32 * 2**20
    assert KEY_COST.memory == 16 * 2**20
    for wrong in ("ln=30,r=8,p=1", "ln=20,r=32,p=1", "ln=0,r=8,p=1", "ln=14,r=0,p=1", "ln=14,r=8,p=99"):
        with pytest.raises(InputError, match="costs nothing or far too much"):
            ScryptHash.parse(f"$scrypt${wrong}$dP98Zhr9l5GWj+V6fiMtPA$GOUL0Dy6VhZWs+iCri9tEBeqFCBdlihZEdUKJ41pW70")


def test_file_of_accounts_is_private_and_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "access"
    account, text = new_key("pacs")
    assert add_account(path, account) is False
    assert add_account(path, user("anna", "password!", CHEAP)) is False
    assert add_account(path, user("anna", "another!", CHEAP)) is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_text()
    assert text.partition(".")[2] not in content
    assert [(one.kind, one.name) for one in read_accounts(path)] == [("key", "pacs"), ("user", "anna")]
    assert read_accounts(path)[1].hash.matches(b"another!")
    with pytest.raises(InputError, match="nobody called ana; did you mean anna"):
        remove_account(path, "ana")
    assert [one.kind for one in remove_account(path, "anna")] == ["user"]
    assert len(read_accounts(path)) == 1


def test_changed_file_holds_from_then_on_and_a_damaged_one_is_not_taken(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "access"
    add_account(path, user("anna", "password!", CHEAP))
    add_account(path, key(KEY))
    login = Login(Accounts(path=path), clock)
    ask(login, bearer(KEY))
    remove_account(path, "pacs")
    clock.now += 2
    assert refused(login, bearer(KEY)).status == 401
    good = path.read_text()
    path.write_text(good + "user bert plain-text-password\n")
    clock.now += 2
    assert ask(login, basic("anna", "password!")).name == "anna"
    assert "line 3" in caplog.text
    assert "plain-text" not in caplog.text
    path.write_text(good)
    add_account(path, user("bert", "password!", CHEAP))
    clock.now += 2
    assert ask(login, basic("bert", "password!")).name == "bert"
    # Nothing has changed since, so what is remembered stays.
    assert not login._accounts.refresh()


def test_file_that_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "access"
    add_account(path, user("anna", "password!", CHEAP))
    add_account(path, key(KEY))
    stored = Accounts(path=path)
    remove_account(path, "anna")
    with monkeypatch.context() as failing:

        def refuse(*_: object, **__: object) -> str:
            raise OSError(errno.EMFILE, "Too many open files")

        failing.setattr(Path, "read_text", refuse)
        assert not stored.refresh()
        assert not stored.refresh()
    assert caplog.text.count("Too many open files") == 1
    assert stored.find("user", "anna") is not None
    assert stored.refresh()
    assert stored.find("user", "anna") is None
    assert not stored.refresh()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user anna", "line 1: it is not `user NAME HASH`"),
        ("admin anna $scrypt$ln=4,r=1,p=1$dP98Zhr9l5GWj+V6fiMtPA$x", "line 1: it is not"),
        ("user anna hunter2", r"line 1: the hash is not of the form"),
        ("", "holds nobody"),
        ("# only words", "holds nobody"),
    ],
)
def test_wrong_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "access"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        Accounts(path=path)
    assert "hunter2" not in str(caught.value)


def test_file_that_is_missing_or_no_text_or_names_one_twice_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the accounts"):
        Accounts(path=tmp_path / "missing")
    path = tmp_path / "access"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read the accounts"):
        Accounts(path=path)
    line = str(user("anna", "password!", CHEAP))
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(InputError, match="line 2: the user anna stands twice"):
        Accounts(path=path)
    path.write_text(line)
    with pytest.raises(InputError, match="give each name once"):
        Accounts([user("anna", "x", CHEAP)], path)


@pytest.mark.parametrize("make_account", [lambda: user("a b", "x"), lambda: user("", "x"), lambda: user("a:b", "x")])
def test_unusable_users_are_refused(make_account: Callable[[], object]) -> None:
    with pytest.raises(InputError, match="user:password"):
        make_account()


@pytest.mark.parametrize("text", ["pacs", "pacs.short", "pa cs.0123456789abcdef", ".0123456789abcdef", ""])
def test_unusable_keys_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="key"):
        key(text)
