//! What is owed: rows and totals of a letter.
