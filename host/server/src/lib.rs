//! DICOMweb and DIMSE.
pub mod dicomweb;
