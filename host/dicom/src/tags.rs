//! The attributes that this crate reads, each with the value representation of the standard.
//!
//! Implicit VR files and elements written as UN do not say how a value is stored; the representation here does.

/// How the standard stores an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vr {
    Text,
    /// Decimal or integer string.
    Number,
    U16,
    /// US or SS, by PixelRepresentation.
    X16,
    U32,
    F32,
    F64,
    Sequence,
    Bytes,
}

/// An attribute: group << 16 | element, and its representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub number: u32,
    pub vr: Vr,
    pub name: &'static str,
}

macro_rules! tags {
    ($($name:ident $number:literal $vr:ident;)*) => {
        $(pub(crate) const $name: Tag = Tag { number: $number, vr: Vr::$vr, name: stringify!($name) };)*
    };
}

#[allow(non_upper_case_globals)]
mod table {
    use super::{Tag, Vr};
    tags! {
        MediaStorageSOPClassUID 0x0002_0002 Text;
        MediaStorageSOPInstanceUID 0x0002_0003 Text;
        TransferSyntaxUID 0x0002_0010 Text;
        DirectoryRecordSequence 0x0004_1220 Sequence;
        ReferencedFileID 0x0004_1500 Text;
        ImageType 0x0008_0008 Text;
        SOPClassUID 0x0008_0016 Text;
        SOPInstanceUID 0x0008_0018 Text;
        AcquisitionDateTime 0x0008_002A Text;
        AcquisitionTime 0x0008_0032 Text;
        ContentTime 0x0008_0033 Text;
        Modality 0x0008_0060 Text;
        Manufacturer 0x0008_0070 Text;
        StudyDescription 0x0008_1030 Text;
        SeriesDescription 0x0008_103E Text;
        AnatomicRegionSequence 0x0008_2218 Sequence;
        CodeMeaning 0x0008_0104 Text;
        FrameType 0x0008_9007 Text;
        AcquisitionContrast 0x0008_9209 Text;
        PatientID 0x0010_0020 Text;
        ContrastBolusAgent 0x0018_0010 Text;
        ContrastBolusAgentSequence 0x0018_0012 Sequence;
        BodyPartExamined 0x0018_0015 Text;
        ScanningSequence 0x0018_0020 Text;
        SequenceVariant 0x0018_0021 Text;
        SequenceName 0x0018_0024 Text;
        SliceThickness 0x0018_0050 Number;
        RepetitionTime 0x0018_0080 Number;
        EchoTime 0x0018_0081 Number;
        InversionTime 0x0018_0082 Number;
        EchoNumbers 0x0018_0086 Number;
        ProtocolName 0x0018_1030 Text;
        TriggerTime 0x0018_1060 Number;
        GantryDetectorTilt 0x0018_1120 Number;
        ConvolutionKernel 0x0018_1210 Text;
        EffectiveEchoTime 0x0018_9082 F64;
        DiffusionBValue 0x0018_9087 F64;
        DiffusionGradientOrientation 0x0018_9089 F64;
        MREchoSequence 0x0018_9114 Sequence;
        MRDiffusionSequence 0x0018_9117 Sequence;
        DiffusionGradientDirectionSequence 0x0018_9076 Sequence;
        MRImageFrameTypeSequence 0x0018_9226 Sequence;
        CTImageFrameTypeSequence 0x0018_9329 Sequence;
        PETFrameTypeSequence 0x0018_9751 Sequence;
        StudyInstanceUID 0x0020_000D Text;
        SeriesInstanceUID 0x0020_000E Text;
        SeriesNumber 0x0020_0011 Number;
        AcquisitionNumber 0x0020_0012 Number;
        InstanceNumber 0x0020_0013 Number;
        ImagePositionPatient 0x0020_0032 Number;
        ImageOrientationPatient 0x0020_0037 Number;
        FrameOfReferenceUID 0x0020_0052 Text;
        TemporalPositionIdentifier 0x0020_0100 Number;
        FrameContentSequence 0x0020_9111 Sequence;
        PlanePositionSequence 0x0020_9113 Sequence;
        PlaneOrientationSequence 0x0020_9116 Sequence;
        StackID 0x0020_9056 Text;
        TemporalPositionIndex 0x0020_9128 U32;
        FrameAcquisitionNumber 0x0020_9156 U16;
        FrameReferenceDateTime 0x0018_9151 Text;
        FrameAcquisitionDateTime 0x0018_9074 Text;
        SamplesPerPixel 0x0028_0002 U16;
        PhotometricInterpretation 0x0028_0004 Text;
        NumberOfFrames 0x0028_0008 Number;
        Rows 0x0028_0010 U16;
        Columns 0x0028_0011 U16;
        PixelSpacing 0x0028_0030 Number;
        BitsAllocated 0x0028_0100 U16;
        BitsStored 0x0028_0101 U16;
        HighBit 0x0028_0102 U16;
        PixelRepresentation 0x0028_0103 U16;
        PixelPaddingValue 0x0028_0120 X16;
        PixelPaddingRangeLimit 0x0028_0121 X16;
        FloatPixelPaddingValue 0x0028_0122 F32;
        DoubleFloatPixelPaddingValue 0x0028_0123 F64;
        BurnedInAnnotation 0x0028_0301 Text;
        WindowCenter 0x0028_1050 Number;
        WindowWidth 0x0028_1051 Number;
        RescaleIntercept 0x0028_1052 Number;
        RescaleSlope 0x0028_1053 Number;
        RescaleType 0x0028_1054 Text;
        LossyImageCompression 0x0028_2110 Text;
        ModalityLUTSequence 0x0028_3000 Sequence;
        LUTDescriptor 0x0028_3002 X16;
        LUTData 0x0028_3006 Bytes;
        PixelMeasuresSequence 0x0028_9110 Sequence;
        FrameVOILUTSequence 0x0028_9132 Sequence;
        PixelValueTransformationSequence 0x0028_9145 Sequence;
        Units 0x0054_1001 Text;
        SharedFunctionalGroupsSequence 0x5200_9229 Sequence;
        PerFrameFunctionalGroupsSequence 0x5200_9230 Sequence;
    }
}
pub(crate) use table::*;

/// Float, double and integer pixel data: the header pass stops here.
pub(crate) const PIXEL_DATA: [u32; 3] = [0x7FE0_0008, 0x7FE0_0009, 0x7FE0_0010];
