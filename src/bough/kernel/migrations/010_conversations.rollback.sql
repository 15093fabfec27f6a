-- Takes back 010_conversations.sql: conversations are lost, agents under way begin theirs anew.

alter table bough.attempts drop column error_code;
drop table bough.conversations;
drop function bough.refuse_rewriting();
drop domain bough.entry_number;
drop domain bough.entry;
