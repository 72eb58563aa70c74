"""Reports between mail servers about the use of a domain: DMARC aggregate reports and their attachments. *Pure.*"""
