#!/bin/sh
server_default=''
