-- Version 3: when a token was used last, to the hour; NULL: never, as far as is known.
ALTER TABLE tokens ADD COLUMN used INTEGER;
