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
    "near_duplicate": N_("nearly equal to a document that stays"),
    "near_held_out": N_("nearly equal to a held-out document"),
    "repeated_paragraph": N_("paragraphs that stand in another document"),
    # decontamination
    "contaminated": N_("an evaluation item stands in it"),
}
