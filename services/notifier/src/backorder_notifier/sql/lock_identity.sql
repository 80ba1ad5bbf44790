-- One start at a time judges and accepts: of two with the same flags the second finds that it is done.
SELECT only_row FROM identity FOR UPDATE
