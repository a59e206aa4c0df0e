"""The photo in a request's body: its bytes as they are, or one file of a form; never more than ``MOST_BYTES`` of it."""

from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from vitrine.images import ImageError
from vitrine.photo_files import MOST_UPLOAD_BYTES as MOST_BYTES

_FORM_BYTES = 64 * 1024
"""Of what a form has around its file."""


async def photo_of(request: Request) -> bytes:
    """The photo that was sent.

    Raises:
        ImageError: it is larger than ``MOST_BYTES``; what follows is not read.
        ValueError: a form that cannot be read, or that has not one file.
    """
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    most = MOST_BYTES + (_FORM_BYTES if is_form else 0)
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(int(declared))
    body = _limited(request, most)
    if not is_form:
        return b"".join([chunk async for chunk in body])
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=10).parse()
    except (MultiPartException, KeyError) as error:  # KeyError: no boundary
        raise ValueError(f"the form cannot be read ({error})") from None
    try:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if len(uploads) != 1:
            raise ValueError("the form has no file: send the photo as one, or its bytes as the body")
        return await uploads[0].read()
    finally:
        await form.close()


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read > most:
            raise _too_large(read)
        yield chunk


def _too_large(size: int) -> ImageError:
    return ImageError("too_large", f"{size:,} bytes or more, over the limit of {MOST_BYTES:,}")
