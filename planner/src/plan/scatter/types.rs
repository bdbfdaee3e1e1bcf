//! Built-in types that the merge can compare, group by and add up, by their OIDs: what
//! `ringway::executor::merge` has decoders for.

/// Are values of this type put in PostgreSQL's order?
pub(super) fn has_order(type_oid: u32) -> bool {
    matches!(
        type_oid,
        16..=21
            | 23
            | 25
            | 26
            | 700
            | 701
            | 1042
            | 1043
            | 1082
            | 1083
            | 1114
            | 1184
            | 1186
            | 1266
            | 1700
            | 2950
    )
}

/// Are equal values of this type found to be equal? Also inet, cidr, macaddr and bit strings.
pub(super) fn has_equality(type_oid: u32) -> bool {
    has_order(type_oid) || matches!(type_oid, 650 | 774 | 829 | 869 | 1560 | 1562)
}

/// Are sums of this type added up?
pub(super) fn adds_up(type_oid: u32) -> bool {
    averages(type_oid) || matches!(type_oid, 700 | 1186)
}

/// Are bits of this type combined? Those of bit strings are not.
pub(super) fn has_bits(type_oid: u32) -> bool {
    matches!(type_oid, 20 | 21 | 23)
}

/// Are averages of this type made of sums and counts? Sums of float4 have lost digits.
pub(super) fn averages(type_oid: u32) -> bool {
    matches!(type_oid, 20 | 21 | 23 | 701 | 1700)
}
