#pragma once
// The record sources, one a kind of text format.

#include "io/prepare/record.h"

namespace moleblend {

/// A line is a record: SMILES [white space name]. Blank lines, comment lines (#) and a header line are no records.
std::unique_ptr<RecordSource> open_smiles(const std::filesystem::path& path);
/// CSV (RFC 4180) or tab-separated, with a header row; `format` csv finds out which.
std::unique_ptr<RecordSource> open_table(const std::filesystem::path& path, const std::string& format,
                                         const ColumnNames& columns);
/// Records end at $$$$ (a MOL file has none). Columns are data fields: `> <NAME>`.
std::unique_ptr<RecordSource> open_sdf(const std::filesystem::path& path, const ColumnNames& columns);
/// Records begin at @<TRIPOS>MOLECULE.
std::unique_ptr<RecordSource> open_mol2(const std::filesystem::path& path);
/// Concatenated XYZ: a count, a comment, so many atoms. Also the dialect of QM9's files, whose comment holds the labels.
std::unique_ptr<RecordSource> open_xyz(const std::filesystem::path& path, const ColumnNames& columns);
/// One molecule a file, or records that end at ENDMDL or END.
std::unique_ptr<RecordSource> open_pdb(const std::filesystem::path& path);

/// Takes a SMILES line or field apart: record.text is the SMILES, record.identifier the name behind it. The extension of a CXSMILES
/// (`|…|`) is left out.
void set_smiles(Record& record, std::string_view line);

}  // namespace moleblend
