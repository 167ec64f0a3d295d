"""The rules by which documents, lines or files are set aside, removed or changed, and what a person reads for them."""

from __future__ import annotations

from treino.messages import N_

RULES = {
    # sources
    "unreadable": N_("file cannot be read"),
    "damaged": N_("damaged file, used up to the break"),
    "truncated": N_("file breaks off, used up to the break"),
    "expands_without_bound": N_("compressed file without end"),
    "binary": N_("not a text file"),
    "too_large": N_("file too large"),
    "empty": N_("empty"),
    "line_too_long": N_("line too long"),
    "nested_too_deep": N_("archives or compressions nested too deep"),
    "too_many_members": N_("archive with too many files, the first of them used"),
    "encrypted": N_("encrypted"),
    "crashes_the_parser": N_("damaged so that its parser crashed"),
    "takes_too_long": N_("takes its parser too long"),
    "pdf_without_text": N_("PDF without text, perhaps pictures of pages"),
    "page_without_text": N_("page without text"),
    "broken_xml": N_("page that is not XML"),
    "not_a_dump": N_("XML that is no Wikipedia dump"),
    # web sites
    "unknown_host": N_("address whose host is not known"),
    "unreachable": N_("server not reached"),
    "private_address": N_("address of a private network"),
    "robots": N_("not allowed by robots.txt"),
    "noindex": N_("page that asks not to be collected"),
    "other_site": N_("redirect to another site"),
    "redirects_nowhere": N_("redirects without end"),
    "http_error": N_("the server answered with an error"),
    "page_cut": N_("page too long or too slow, used up to the cut"),
    "unknown_encoding": N_("page compressed in an unknown way"),
    "endless_addresses": N_("address that goes in circles"),
    "crawl_limit": N_("limit reached, with pages left"),
    "broken_json": N_("line that is not JSON"),
    "not_an_object": N_("JSON line that is no object"),
    "no_text": N_("row without text"),
    "no_label": N_("row without label"),
    "no_text_column": N_("table without a text column"),
    "wrong_number_of_columns": N_("wrong number of columns"),
    "quote_never_closed": N_("quotation mark never closed"),
    "broken_csv": N_("broken CSV row"),
    # cleaning
    "too_short": N_("too short"),
    "changed": N_("changed"),
    "normal_form": N_("accents brought into one form"),
    "fix_encoding": N_("broken characters mended"),
    "controls": N_("invisible characters removed"),
    "white_space": N_("white space evened"),
    "unwrap": N_("hard-wrapped lines joined"),
    # deduplication
    "duplicate": N_("duplicate"),
    "conflicting_labels": N_("the same text with different labels"),
    "also_held_out": N_("equal to a held-out document"),
}
