"""Files of every kind that sources have, made from texts: for the tests, and for the long proof by mutation."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from html import escape

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Texts = list[str]


def text(texts: Texts) -> bytes:
    """One document: the texts as paragraphs."""
    return "\n\n".join(texts).encode()


def json_lines(texts: Texts) -> bytes:
    """A row each."""
    return "".join(json.dumps({"n": 1, "text": item}, ensure_ascii=False) + "\n" for item in texts).encode()


def table(texts: Texts) -> bytes:
    """A row each, as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "texto"], *([number, item] for number, item in enumerate(texts))])
    return buffer.getvalue().encode()


def parquet(texts: Texts, group: int = 100) -> bytes:
    """A row each, in groups."""
    sink = pa.BufferOutputStream()
    rows = pa.table({"id": list(range(len(texts))), "text": texts, "lista": [["a"]] * len(texts)})
    pq.write_table(rows, sink, row_group_size=group)
    return sink.getvalue().to_pybytes()


def page(texts: Texts, head: str = "") -> bytes:
    """One page: the texts as paragraphs of an article, with a menu before and a foot behind."""
    paragraphs = "".join(f"<p>{escape(item)}</p>\n" for item in texts)
    menu = "<nav><ul><li><a href='/'>Início</a></li><li><a href='/b'>Sobre nós</a></li></ul></nav>"
    return (
        f"<!DOCTYPE html><html lang='pt'><head><title>Um título</title>{head}</head><body>{menu}"
        f"<article><h1>Um título</h1>{paragraphs}</article><footer><a href='/c'>Contato</a></footer></body></html>"
    ).encode()


def epub(texts: Texts) -> bytes:
    """One book, a chapter each; the names of the chapters are in another order than the spine."""
    names = [f"capítulo {len(texts) - number}.xhtml" for number in range(len(texts))]
    items = "".join(f'<item id="c{n}" href="{name}" media-type="x"/>' for n, name in enumerate(names))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(texts)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
        "<dc:title>O livro</dc:title><dc:creator>Ninguém</dc:creator><dc:language>pt</dc:language></metadata>"
        f'<manifest><item id="nav" href="nav.xhtml" properties="nav"/>{items}</manifest>'
        f'<spine><itemref idref="nav"/>{spine}</spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/livro.opf"/></rootfiles></container>'
    files = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "OEBPS/livro.opf": package}
    files["OEBPS/nav.xhtml"] = "<html><body>Sumário</body></html>"
    for name, item in zip(names, texts, strict=True):
        lines = "<br/>".join(map(escape, item.split("\n")))
        files[f"OEBPS/{name}"] = (
            f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body><p>{lines}</p></body></html>'
        )
    return archive({name: content.encode() for name, content in files.items()})


def archive(files: dict[str, bytes]) -> bytes:
    """A ZIP file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(zipfile.ZipInfo(name), content, 0 if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def pdf(pages: list[list[str]]) -> bytes:
    """A PDF from the lines of its pages, in Helvetica and Windows-1252."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    for number, lines in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode()
        )
        shown = b"".join(
            b"("
            + line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("cp1252", "replace")
            + b") Tj T*\n"
            for line in lines
        )
        stream = b"BT /F 11 Tf 14 TL 40 760 Td\n" + shown + b"ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, start)
    return bytes(out)


def book(texts: Texts) -> bytes:
    """One PDF, a page each, with the title above and the number below."""
    return pdf([["Um título", *item.split("\n"), str(number)] for number, item in enumerate(texts, 7)])


def dump(texts: Texts) -> bytes:
    """A Wikipedia dump, an article each, with a redirect and a talk page."""
    pages = [
        f"  <page>\n    <title>Artigo {number}</title>\n    <ns>0</ns>\n    <id>{number}</id>\n    <revision>\n"
        f"      <timestamp>2026-01-01T00:00:00Z</timestamp>\n      <model>wikitext</model>\n"
        f'      <text bytes="9">{{{{Info|a=[[b]]}}}}\n{escape(item)}&lt;ref&gt;nota&lt;/ref&gt;\n[[Categoria:X]]</text>\n'
        "    </revision>\n  </page>\n"
        for number, item in enumerate(texts, 1)
    ]
    talk = "<page><title>Discussão:A</title><ns>1</ns><id>900</id><revision><text>conversa</text></revision></page>\n"
    moved = (
        '<page><title>B</title><ns>0</ns><id>901</id><redirect title="A"/><revision><text>ir</text></revision></page>'
    )
    return f"<mediawiki>\n<siteinfo/>\n{talk}{''.join(pages)}{moved}</mediawiki>\n".encode()


def warc(texts: Texts) -> bytes:
    """A WARC file with a page each."""
    out = bytearray()
    for number, item in enumerate(texts):
        body = page([item])
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
        out += (
            f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: https://a.org/{number}\r\n"
            f"WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Length: {len(block)}\r\n\r\n"
        ).encode()
        out += block + b"\r\n\r\n"
    return bytes(out)


def zipped(texts: Texts) -> bytes:
    """A ZIP file with a text file each, in a folder, and a file that is no source."""
    files = {f"textos/{number:03d}.txt": item.encode() for number, item in enumerate(texts)}
    return archive(files | {"figura.png": b"\x89PNG"})


MAKERS: dict[str, Callable[[Texts], bytes]] = {
    ".txt": text, ".jsonl": json_lines, ".csv": table, ".parquet": parquet, ".html": page, ".epub": epub, ".pdf": book,
    ".xml": dump, ".warc": warc, ".zip": zipped,
}  # fmt: skip
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.ZstdCompressor().compress,
}  # fmt: skip
