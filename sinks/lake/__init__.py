"""The lake: Iceberg tables of Parquet, whose commits carry the offsets they were made from."""
