"""The PLC interfaces Modbus TCP and OPC UA, with their registers and nodes."""
