"""Documents to token ids: the tokenizer, shards on disk, and packing into rows."""
