//! INI text to a valid [`Config`], or every error of the file at once.
