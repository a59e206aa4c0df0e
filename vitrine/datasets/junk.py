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


def is_junk_file(name: str) -> bool:
    """Is a file of that name hidden, or a system's or an office program's own?"""
    return name.lower().startswith((".", "~$")) or name.lower() in _FILES


def may_be_photo(name: str) -> bool:
    """Is a file of that name neither junk nor a sidecar?"""
    return not is_junk_file(name) and PurePosixPath(name.lower()).suffix not in _SIDECARS
