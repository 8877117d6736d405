//! The lab of Netcombiner: network namespaces, an emulated WAN between the portals, measurements.
