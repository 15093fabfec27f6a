-- Takes back 007_ports.sql: running agents keep the ports that they know of.

drop table bough.ports;
drop domain bough.port;
