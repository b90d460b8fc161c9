"""What a PLC talks to: Modbus TCP and OPC UA, and their registers and nodes."""
