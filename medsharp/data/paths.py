"""Which files a manifest means by its paths: those in its folder, whatever computer wrote the names.

Windows writes backslashes, macOS decomposes letters with accents, and spreadsheets change case: the file that is there
is found. A path never leads out of the folder by its text, as a manifest may come from anybody. A link in the folder
does where its owner is one who answers for the folder: the user, the folder's owner, or root. Whole data sets are kept
that way (DVC, git-annex, a folder of links chosen from an archive), and who can put a link there could put the file.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISLNK

from medsharp.errors import InputError
from medsharp.keys import name_key


class DataFolder:
    """A folder, and the files in it by what they may be called.

    Folders are listed once, so that a million rows cost no system call each.

    Attributes:
        root: The folder.
        respelled: How many names were found by another spelling, by kind: `backslashes`, `letters` (composed or
            decomposed Unicode) and `case`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Windows has no such numbers; there every file is of owner 0.
        self._owners = {getattr(os, "getuid", int)(), 0, *([root.stat().st_uid] if root.is_dir() else [])}
        self.respelled: Counter[str] = Counter()
        self._folders: dict[str, dict[str, bool]] = {}
        self._by_key: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}
        self._found: dict[str, str] = {"": ""}
        self._plain: dict[str, dict[str, bool]] = {}  # folders that are spelled as on disk: most paths end here

    def find(self, name: str) -> str | None:
        """Return the path of a file from the root, as it is spelled on disk; None where there is none.

        Args:
            name: As the manifest gives it.

        Raises:
            InputError: The path leaves the folder, or a link does that somebody else made.
        """
        head, _, tail = name.rpartition("/")
        if self._plain.get(head, {}).get(tail):
            return f"{self._found[head]}/{tail}" if head else tail
        windows = refuse_outside(name)
        kinds: list[str] = []
        place = self._find(PurePosixPath(name).parts, kinds)
        if place is None and "\\" in name:
            kinds = ["backslashes"]
            place = self._find(windows.parts, kinds)
        if place is not None:
            self.respelled.update(set(kinds))
            if not kinds and place.rpartition("/")[0] == head:
                self._found[head], self._plain[head] = head, self._listed(head)
        return place

    def notes(self, name: str) -> list[str]:
        """Say how names were found by another spelling.

        Args:
            name: Of the table that has them.
        """
        how = {
            "backslashes": "with backslashes, which are read as slashes",
            "letters": "whose accents are coded otherwise than on disk",
            "case": "in other capitals, dashes or blanks than on disk",
        }
        return [
            f"{name}: {count} {'path' if count == 1 else 'paths'} {how[kind]}"
            for kind, count in sorted(self.respelled.items())
        ]

    def _find(self, parts: tuple[str, ...], kinds: list[str]) -> str | None:
        place = ""
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            given = f"{place}/{part}" if place else part
            if last or given not in self._found:
                found = self._entry(place, part, kinds)
                if found is None:
                    return None
                where = f"{place}/{found}" if place else found
                self._refuse_foreign_link(place, found, where)
                if last:
                    return where if self._is_file(place, found, where) else None
                if not kinds:
                    self._found[given] = where
                place = where
            else:
                place = self._found[given]
        return None

    def _entry(self, folder: str, name: str, kinds: list[str]) -> str | None:
        entries = self._listed(folder)
        if name in entries:
            return name
        if folder not in self._by_key:
            composed: dict[str, list[str]] = {}
            folded: dict[str, list[str]] = {}
            for entry in entries:
                composed.setdefault(unicodedata.normalize("NFC", entry), []).append(entry)
                folded.setdefault(name_key(entry), []).append(entry)
            self._by_key[folder] = composed, folded
        composed, folded = self._by_key[folder]
        for kind, found in (
            ("letters", composed.get(unicodedata.normalize("NFC", name), [])),
            ("case", folded.get(name_key(name), [])),
        ):
            if len(found) == 1:
                kinds.append(kind)
                return found[0]
        return None

    def _listed(self, folder: str) -> dict[str, bool]:
        """Return the names in a folder, and which of them are plain files for sure."""
        if folder not in self._folders:
            try:
                with os.scandir(self.root / folder) as entries:
                    self._folders[folder] = {e.name: e.is_file(follow_symlinks=False) for e in entries}
            except OSError:
                self._folders[folder] = {}
        return self._folders[folder]

    def _is_file(self, folder: str, name: str, where: str) -> bool:
        return self._listed(folder)[name] or (self.root / where).is_file()

    def _refuse_foreign_link(self, folder: str, name: str, where: str) -> None:
        if self._listed(folder)[name]:
            return
        link = self.root / where
        try:
            about = link.lstat()
        except OSError:
            return
        if S_ISLNK(about.st_mode) and about.st_uid not in self._owners:
            inside = self.root.resolve()
            if not link.resolve().is_relative_to(inside):
                raise InputError(
                    f"'{where}' is a link that leaves the data folder, and neither you nor the folder's owner made it; "
                    "copy the file there instead"
                )


def refuse_outside(name: str) -> PureWindowsPath:
    """Return a path as Windows divides it.

    Raises:
        InputError: By its text it leaves the folder that it is relative to.
    """
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        slashes = "; write it from the data folder on, with slashes" if "\\" in name else ""
        raise InputError(f"path '{name}' must stay inside the data folder{slashes}")
    return windows
