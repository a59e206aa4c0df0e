"""What systems put beside photos and nobody means: known by name, whatever its case, at any depth."""

from pathlib import PurePosixPath

_FOLDERS = {
    "__macosx",  # archives made on a Mac
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp",  # network storage
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",  # Windows
    "network trash folder", "temporary items", "lost+found",
    "cvs", "_svn",  # version control that does not hide
}  # fmt: skip
_FILES = {"icon\r", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"}
_SIDECARS = {
    *(".txt", ".json", ".csv", ".tsv", ".md", ".xml", ".html", ".ini", ".db", ".yaml", ".yml", ".parquet"),
    *(".xmp", ".aae", ".thm"),  # what editors, phones and cameras write beside each photo
}


def is_junk_folder(name: str) -> bool:
    """Is a folder of that name hidden, or a system's own?"""
    return name.startswith(".") or name.lower() in _FOLDERS


def may_be_photo(name: str) -> bool:
    """Is a file of that name neither hidden, nor a system's own, nor a sidecar?"""
    lower = name.lower()
    return not (lower.startswith((".", "~$")) or lower in _FILES or PurePosixPath(lower).suffix in _SIDECARS)
