"""Videos in object stores (`s3://` and others): found, fetched, published whole."""
