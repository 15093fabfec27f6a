-- Takes back 008_file_changes.sql: who changed what, and the disk use of worktrees.

drop table bough.file_changes;
alter table bough.workspaces drop column disk_bytes;
drop domain bough.file_number, bough.change_kind, bough.bytes;
