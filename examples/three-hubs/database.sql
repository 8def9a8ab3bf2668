-- In PostgreSQL (15 or newer), as its administrator: psql -v password=… -f database.sql
CREATE ROLE reeve LOGIN PASSWORD :'password';
CREATE DATABASE reeve OWNER reeve;
